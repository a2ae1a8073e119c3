"""Lowers the modules of XlaCallModule ops to HLO, in a process of its own."""

import subprocess
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tensorflow.core.framework import graph_pb2

from graphs.costs.work import TensorSpec
from graphs.python_process import start_python

_HOST = b"CPU"
#: A module that takes longer to lower stays opaque.
_MOST_SECONDS = 180


@dataclass
class Lowering:
    """Lowers modules by TensorFlow, which fits open sizes to the arguments and drops dead ops.

    The process that does it starts with the first module; `close` ends it.
    """

    _process: "subprocess.Popen[bytes] | None" = field(default=None)

    def hlo(self, request: bytes) -> tuple[bytes | None, str]:
        """A serialized HloModuleProto, or None and the reason.

        Args:
            request: see `request_for`.
        """
        try:
            process = self._started()
        except OSError as error:
            return None, f"no process could be started that reads it: {error}"
        assert process.stdin is not None
        assert process.stdout is not None
        watch = threading.Timer(_MOST_SECONDS, process.kill)
        watch.daemon = True
        watch.start()
        try:
            process.stdin.write(len(request).to_bytes(8, "big") + request)
            process.stdin.flush()
            head = process.stdout.read(16)
            reply = process.stdout.read(int.from_bytes(head[8:], "big"))
        except OSError:  # the process ended
            head = reply = b""
        finally:
            watch.cancel()
        if len(head) < 16 or len(reply) < int.from_bytes(head[8:], "big"):
            self.close()
            return None, (
                "it is damaged, or too large: reading it ended the process, or took longer than "
                f"{_MOST_SECONDS} s"
            )
        if head[:8] == bytes(8):
            return reply, ""
        lines = reply.decode("utf-8", "replace").splitlines() or ["no reason given"]
        return None, lines[0][:300]

    def close(self) -> None:
        """End the process, if there is one."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def _started(self) -> "subprocess.Popen[bytes]":
        if self._process is None:
            environment = {
                "TF_CPP_MIN_LOG_LEVEL": "3",
                "CUDA_VISIBLE_DEVICES": "-1",  # nothing runs, so no device is taken
            }
            self._process = start_python(
                "graphs.importers.stablehlo.lowering_process", (), environment,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            )  # fmt: skip
        return self._process


def request_for(
    definition: Any, arguments: Sequence[tuple[TensorSpec, int]], versions: Any, functions: Any
) -> bytes:
    """A serialized GraphDef of one module and its arguments.

    Args:
        definition: the NodeDef of the XlaCallModule; not changed.
        arguments: spec and TensorFlow's number of the element type of each input.
        versions: the GraphDef's version record.
        functions: the functions of the graph, which the module may call.
    """
    graph_def = graph_pb2.GraphDef()
    graph_def.versions.CopyFrom(versions)
    module = graph_def.node.add()
    module.CopyFrom(definition)
    module.name, module.device = "module", ""
    del module.input[:]
    for key in [key for key in module.attr if key.startswith("_")]:
        del module.attr[key]
    platforms = module.attr["platforms"].list.s if "platforms" in module.attr else []
    if platforms and _HOST not in platforms:
        platforms[0] = _HOST  # it is lowered, not run: the first platform's branch counts
    if "function_list" in module.attr and module.attr["function_list"].list.func:
        graph_def.library.function.extend(functions)
    for number, (spec, dtype_enum) in enumerate(arguments):
        argument = graph_def.node.add(name=f"argument_{number}", op="Placeholder")
        argument.attr["dtype"].type = dtype_enum
        argument.attr["shape"].shape.SetInParent()
        for size in spec.shape:
            argument.attr["shape"].shape.dim.add(size=size)
        module.input.append(argument.name)
    return graph_def.SerializeToString()
