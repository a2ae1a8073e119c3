"""Costs of TensorFlow's variables and optimizer updates.

An update touches the variable, its slots and the gradient once. Ops on resource handles do not
show the variable's size; the gradient has it.
"""

from collections.abc import Mapping

from graphs.costs.formulas import free
from graphs.costs.work import Formula, OpCost, Signature, TensorSpec, Work
from graphs.kinds import OpKind


def _update(flops: float, states: int) -> Formula:
    """An optimizer's rule: flops per element; `states` counts the variable and its slots."""

    def formula(op: Signature) -> Work:
        gradient = max(op.inputs, key=lambda tensor: tensor.elements, default=TensorSpec(()))
        state_bytes = states * gradient.bytes
        return Work(flops * gradient.elements, gradient.bytes + state_bytes, state_bytes)

    return formula


def _assign(flops: float, reads_target: bool) -> Formula:
    """Writes the last input into a variable, in place."""

    def formula(op: Signature) -> Work:
        value = op.inputs[-1]
        read = value.bytes * (2 if reads_target else 1)
        return Work(flops * value.elements, read, value.bytes)

    return formula


#: Optimizer to flops per element, and variables touched (the parameter and its slots).
_RULES = {
    "GradientDescent": (2.0, 1),
    "ProximalGradientDescent": (8.0, 1),
    "Momentum": (4.0, 2),
    "KerasMomentum": (4.0, 2),
    "Adagrad": (8.0, 2),
    "AdagradV2": (9.0, 2),
    "AdagradDA": (12.0, 3),
    "ProximalAdagrad": (14.0, 2),
    "Adadelta": (18.0, 3),
    "RMSProp": (14.0, 3),
    "CenteredRMSProp": (18.0, 4),
    "Adam": (16.0, 3),
    "AdamWithAmsgrad": (17.0, 4),
    "AdaMax": (10.0, 3),
    "Ftrl": (30.0, 3),
    "FtrlV2": (32.0, 3),
    "AddSign": (8.0, 2),
    "PowerSign": (18.0, 2),
}

STATE_OPS: Mapping[str, OpCost] = {
    **dict.fromkeys(
        ("VarHandleOp", "VariableV2", "Variable", "_VarHandlesOp", "TemporaryVariable"),
        OpCost(OpKind.VARIABLE, free),
    ),
    **dict.fromkeys(
        ("VarIsInitializedOp", "IsVariableInitialized", "DestroyResourceOp", "VariableShape"),
        OpCost(OpKind.SHAPE, free),
    ),
    **dict.fromkeys(
        ("Assign", "AssignVariableOp"), OpCost(OpKind.OPTIMIZER_UPDATE, _assign(0.0, False))
    ),
    **dict.fromkeys(
        ("AssignAdd", "AssignSub", "AssignAddVariableOp", "AssignSubVariableOp"),
        OpCost(OpKind.OPTIMIZER_UPDATE, _assign(1.0, True)),
    ),
    **{
        f"{resource}{sparse}Apply{rule}": OpCost(OpKind.OPTIMIZER_UPDATE, _update(flops, states))
        for rule, (flops, states) in _RULES.items()
        for resource in ("", "Resource")
        for sparse in ("", "Sparse")
    },
}
