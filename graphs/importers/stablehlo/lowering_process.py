"""A process: lowers the modules that it is sent to HLO, one after the other.

A damaged module can end the process that reads it, so this is one of its own. Numbers of eight
bytes, most significant first, say how long what follows is. In: a GraphDef with the op `module`
and the placeholders that it reads. Out: 0 and a serialized HloModuleProto, or 1 and why there is
none.
"""

import os
import sys
from typing import Any, BinaryIO

#: The last version under which TensorFlow refines open sizes without being told to.
_REFINED_VERSION = 7


def main() -> None:
    """Answer until the input ends."""
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print is no reply
    requests = sys.stdin.buffer
    while (request := _received(requests)) is not None:
        try:
            status, reply = 0, _lowered(request)
        except Exception as error:  # noqa: BLE001 - whatever it is, the reader says it
            status, reply = 1, f"{type(error).__name__}: {error}".encode()
        replies.write(status.to_bytes(8, "big") + len(reply).to_bytes(8, "big") + reply)
        replies.flush()


def _received(stream: BinaryIO) -> bytes | None:
    size = stream.read(8)
    return stream.read(int.from_bytes(size, "big")) if len(size) == 8 else None


def _lowered(request: bytes) -> bytes:
    from tensorflow.core.framework import graph_pb2

    graph_def = graph_pb2.GraphDef.FromString(request)
    module = next(node for node in graph_def.node if node.name == "module")
    try:
        return _compiled(graph_def, module)
    except ValueError:
        if module.attr["version"].i <= _REFINED_VERSION:
            raise
        try:  # open sizes in a module that does not say that it has any
            module.attr["version"].i = _REFINED_VERSION
            return _compiled(graph_def, module)
        except ValueError:
            pass
        raise


def _compiled(graph_def: Any, module: Any) -> bytes:
    import tensorflow as tf
    from tensorflow.core.framework import graph_pb2

    arguments = [node for node in graph_def.node if node.op == "Placeholder"]
    specs = [
        tf.TensorSpec(tf.TensorShape(node.attr["shape"].shape), node.attr["dtype"].type)
        for node in arguments
    ]
    rest = graph_pb2.GraphDef()
    rest.CopyFrom(graph_def)
    del rest.node[:]
    rest.node.append(module)
    results = [f"module:{number}" for number in range(len(module.attr["Tout"].list.type))]

    def run(*tensors: Any) -> Any:
        given = {f"{node.name}:0": tensor for node, tensor in zip(arguments, tensors, strict=True)}
        return tf.graph_util.import_graph_def(rest, given, results)

    compiled = tf.function(run, jit_compile=True, autograph=False)
    return bytes(compiled.experimental_get_compiler_ir(*specs)(stage="hlo_serialized"))


if __name__ == "__main__":
    main()
