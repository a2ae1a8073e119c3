"""From a forward pass to a training step: reverse pass, accumulated gradients, updates."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod

from graphs.families.gradients import GRADIENTS
from graphs.families.tape import Tape
from graphs.families.values import TapeValue, Variable
from graphs.kinds import DType, OpKind, Phase


@dataclass(frozen=True)
class Optimizer:
    """An optimizer's update of one variable."""

    update: str
    """Op type of the update."""
    slots: tuple[str, ...]
    """State that it keeps, each as large as the variable."""
    scalars: int
    """Hyperparameters that an update reads."""
    powers: int = 0
    """Scalars of state that all updates share (Adam's decay to the power of the step)."""

    @property
    def ops(self) -> int:
        """Ops for each variable."""
        return 1 + len(self.slots) + self.powers


OPTIMIZERS: Mapping[str, Optimizer] = {
    "sgd": Optimizer("ResourceApplyGradientDescent", (), 1),
    "momentum": Optimizer("ResourceApplyMomentum", ("Momentum",), 2),
    "rmsprop": Optimizer("ResourceApplyRMSProp", ("RMSProp", "RMSProp_1"), 4),
    "adam": Optimizer("ResourceApplyAdam", ("Adam", "Adam_1"), 4, 2),
}


def add_training_step(tape: Tape, loss: TapeValue, optimizer: Optimizer) -> None:
    """Append the gradients of `loss`, an update of every variable they reach, the train op."""
    with tape.phase(Phase.BACKWARD):
        gradients = _gradients(tape, loss)
    with tape.phase(Phase.UPDATE):
        _update(tape, gradients, optimizer)


def _gradients(tape: Tape, loss: TapeValue) -> dict[int, TapeValue]:
    """Tensor to its gradient, for all tensors that depend on a variable."""
    sums = _Sums(tape)
    with tape.scope("gradients"):
        one = tape.constant((), DType.FLOAT32)
        sums.add(loss, tape.op("Fill", (tape.constant((0,)), one), ()))
        for node in reversed(tape.nodes):
            arrived = [sums.of.pop(value.tensor, None) for value in node.outputs]
            if all(value is None for value in arrived):
                continue
            with tape.scope(node.scope.rstrip("/") or "loss"):
                parts = GRADIENTS[node.op_type].function(tape, node, arrived)
                for value, part in zip(node.inputs, parts, strict=False):
                    if part is not None and value.trained:
                        sums.add(value, part)
    return sums.of


class _Sums:
    """Gradients so far; a further one is added to what is there at once.

    A real runtime accumulates as gradients come, so a weight that is used at every step of an
    unrolled network gets a chain of sums in one buffer rather than one op with hundreds of
    inputs. The links share a device with the op that made the first gradient.
    """

    def __init__(self, tape: Tape) -> None:
        self.tape = tape
        self.of: dict[int, TapeValue] = {}
        self._group_of: dict[int, int] = {}

    def add(self, value: TapeValue, gradient: TapeValue) -> None:
        total = self.of.get(value.tensor)
        if total is None:
            self.of[value.tensor] = gradient
            return
        tape = self.tape
        group = self._group_of.get(value.tensor)
        first = group is None
        if group is None:
            # A sum that starts from a sum would tie a whole residual path to one device.
            fresh = tape.kind_of(total.op) == OpKind.ACCUMULATE
            group = tape.new_group() if fresh else tape.group_of(total.op)
            self._group_of[value.tensor] = group
        operands = (total, gradient)
        (self.of[value.tensor],) = tape.multi_op(
            "AddN", operands, (total.spec,), group=group, alias=not first
        )


def _update(tape: Tape, gradients: Mapping[int, TapeValue], optimizer: Optimizer) -> None:
    reached = [v for v in tape.variables if v.value.tensor in gradients]
    float32 = tape.spec((), DType.FLOAT32)
    home = reached[0].group if reached else -1
    powers = [tape.handle(4, home) for _ in range(optimizer.powers)]
    slots = {variable: _slots(tape, variable, optimizer) for variable in reached}
    with tape.scope("train"):
        scalars = [tape.constant((), DType.FLOAT32) for _ in range(optimizer.scalars)]
        done = []
        for variable in reached:
            with tape.scope(f"update_{variable.name}"):
                gradient = gradients[variable.value.tensor]
                apply = _apply if gradient.shape == variable.value.shape else _apply_to_rows
                read = [tape.read(power, float32, home) for power in powers]
                done.append(
                    apply(tape, optimizer, variable, slots[variable], [*read, *scalars], gradient)
                )
        for power in powers:
            value = tape.read(power, float32, home, controls=done)
            product = tape.op("Mul", (value, scalars[0]), ())
            tape.multi_op("AssignVariableOp", (power, product), (), group=home)
            done.append(product.op + 1)
        tape.multi_op("NoOp", (), (), controls=[*done, *tape.side_updates])


def _slots(tape: Tape, variable: Variable, optimizer: Optimizer) -> list[TapeValue]:
    made: list[TapeValue] = []
    for name in optimizer.slots:
        with tape.scope(f"{variable.name}/{name}"):
            made.append(tape.handle(variable.value.spec.bytes, variable.group))
    return made


_Apply = Callable[[Tape, Optimizer, Variable, list[TapeValue], list[TapeValue], TapeValue], int]


def _apply(
    tape: Tape, optimizer: Optimizer, variable: Variable, slots: list[TapeValue],
    scalars: list[TapeValue], gradient: TapeValue,
) -> int:  # fmt: skip
    """One fused update of variable and slots."""
    operands = (variable.handle, *slots, *scalars, gradient)
    tape.multi_op(optimizer.update, operands, (), group=variable.group)
    return tape.op_count - 1


def _apply_to_rows(
    tape: Tape, optimizer: Optimizer, variable: Variable, slots: list[TapeValue],
    scalars: list[TapeValue], gradient: TapeValue,
) -> int:  # fmt: skip
    """The update of an embedding from the rows that were looked up.

    Rows that occur repeatedly are added up first. Rules with slots decay the whole of each
    slot, as TensorFlow's Adam does; that is most of the cost of a large table.
    """
    group, table = variable.group, variable.value.spec
    count = prod(gradient.shape[:1])
    numbers = tape.constant((count,), group=group)
    with tape.phase(Phase.BACKWARD):
        row_spec = tape.spec((count,), DType.INT32)
        unique, places = tape.multi_op("Unique", (numbers,), (row_spec, row_spec), group=group)
        operands = (gradient, places, tape.constant(group=group))
        rows = tape.op("UnsortedSegmentSum", operands, gradient.shape, group=group)
    changed = []
    for slot in slots:
        value = tape.read(slot, table, group)
        decayed = tape.op("Mul", (value, scalars[0]), table.shape, group=group)
        tape.multi_op("AssignVariableOp", (slot, decayed), (), group=group)
        scaled = tape.op("Mul", (rows, scalars[0]), rows.shape, group=group)
        tape.multi_op(
            "ResourceScatterAdd", (slot, unique, scaled), (), group=group,
            controls=(tape.op_count - 2,),
        )  # fmt: skip
        changed.append(tape.read(slot, table, group, controls=(tape.op_count - 1,)))
    if not changed:
        tape.multi_op("ResourceScatterSub", (variable.handle, unique, rows), (), group=group)
        return tape.op_count - 1
    root = tape.op("Sqrt", (changed[-1],), group=group)
    shifted = tape.op("AddV2", (root, scalars[-1]), table.shape, group=group)
    step = tape.op("Mul", (changed[0], scalars[-2]), table.shape, group=group)
    ratio = tape.op("RealDiv", (step, shifted), group=group)
    tape.multi_op("AssignSubVariableOp", (variable.handle, ratio), (), group=group)
    return tape.op_count - 1
