#!/usr/bin/env python3
"""Runs a torch model in the stages that graphwright chose: one process for each stage, in order.

Needs torch and nothing else; 2.13 is what it was tested with.

    torchrun --nproc-per-node STAGES THIS_SCRIPT --check
    torchrun --nproc-per-node STAGES THIS_SCRIPT --inputs batch.pt --outputs outputs.pt
    torchrun --nproc-per-node STAGES THIS_SCRIPT --loss package.losses:cross --targets labels.pt \\
        --optimizer package.optimizers:adam --steps 100 --save trained

Model and weights are those of the exported program, or what `--module package.module:factory`
returns. Its inputs are one micro-batch; a mini-batch has as many of them, one after the other along
dimension 0, as the manifest says.
"""

import sys

if __name__ == "__main__" and not getattr(sys.flags, "safe_path", False):
    del sys.path[0]  # this folder: what lies beside a model is not code of this script

import argparse
import copy
import json
import os
import statistics
import time
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.pipelining import (
    Pipe,
    PipelineStage,
    Schedule1F1B,
    ScheduleGPipe,
    SplitPoint,
    pipeline,
)
from torch.fx import Node
from torch.fx.node import map_arg
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

MANIFEST = Path(__file__).with_name("MANIFEST.pipeline.json")
_VERSION = 2
_SCHEDULES = {"ScheduleGPipe": ScheduleGPipe, "Schedule1F1B": Schedule1F1B}
#: Mini-batches before those that are timed.
_WARM_UP = 2


class PipelineError(RuntimeError):
    """The stages cannot run here; the message says why, and what to do."""


class Relay(torch.nn.Module):
    """A stage that also hands on what later stages read of inputs and of earlier stages.

    torch's stages send to their neighbour alone.
    """

    def __init__(self, pipe: Pipe, index: int) -> None:
        super().__init__()
        self.stage = _without_unread(pipe.get_stage_module(index))
        nodes: list[Any] = list(pipe.split_gm.graph.nodes)
        calls = [node for node in nodes if node.op == "call_module"]
        self._call, self.name = calls[index], str(calls[index].target)
        self.places = [node for node in nodes if node.op == "placeholder"]
        reader = {node: number for number, node in enumerate(calls)}
        made = {**dict.fromkeys(self.places, -1), **reader}
        made.update((node, made[node.args[0]]) for node in nodes if _is_item(node))
        reader[nodes[-1]] = len(calls) - 1
        last = {node: max((reader.get(user, -1) for user in node.users), default=-1)
                for node in made}  # fmt: skip
        borders = [[node for node in made if made[node] < number <= last[node]]
                   for number in range(len(calls))]  # fmt: skip
        results = [node for node in tree_leaves(nodes[-1].args[0]) if isinstance(node, Node)]
        self.entering, self.leaving = borders[index], [*borders[1:], results][index]

    def forward(self, *values: torch.Tensor) -> Any:
        # A received buffer that only passes through must not be sent itself: a view of it is.
        received: dict[Any, torch.Tensor] = dict(zip(self.entering, values, strict=True))
        known: dict[Any, Any] = {node: value.view_as(value) for node, value in received.items()}
        made = known[self._call] = self.stage(*map_arg(self._call.args, received.__getitem__))
        known.update((user, made[user.args[1]]) for user in self._call.users if _is_item(user))
        leaving = tuple(known[node].contiguous() for node in self.leaving)
        return leaving if len(leaving) > 1 else leaving[0]

    def shapes(self, pipe: Pipe, border: list[Any]) -> tuple[torch.Tensor, ...]:
        """What crosses a border, without contents; torch would try random numbers otherwise."""
        shapes = []
        for node in border:
            source, place = (node.args[0], node.args[1]) if _is_item(node) else (node, 0)
            value = node.meta.get("val")
            if source.op == "call_module":
                stage: Any = pipe.split_gm.get_submodule(source.target)
                value = tree_leaves(list(stage.graph.nodes)[-1].args)[place].meta["val"]
            is_trained = source.op == "call_module" and value.is_floating_point()
            empty = torch.empty(value.shape, dtype=value.dtype, device="meta")
            shapes.append(empty.requires_grad_(is_trained))
        return tuple(shapes)


def _without_unread(stage: torch.nn.Module) -> torch.nn.Module:
    """Drop other names of a parameter that the stage has a copy of: they are not the copy."""
    read = {
        f"{path}.{node.target}".lstrip(".")
        for path, module in stage.named_modules()
        for node in getattr(getattr(module, "graph", None), "nodes", ())
        if node.op == "get_attr"
    }
    for name, _ in list(stage.named_parameters(remove_duplicate=False)):
        if name not in read:
            path, _, attribute = name.rpartition(".")
            delattr(stage.get_submodule(path), attribute)
    return stage


def _is_item(node: Any) -> bool:
    return node.op == "call_function" and getattr(node.target, "__name__", "") == "getitem"


class Model:
    """The model before it is cut, and what goes in and out."""

    def __init__(self, manifest: dict[str, Any], folder: Path, factory: str | None) -> None:
        self.specs: list[dict[str, Any]] = manifest["inputs"]
        example: Any = None
        if factory:
            torch.manual_seed(0)  # the same weights in all processes
            self.module: torch.nn.Module = _named(factory)()
            self._results: Any = None
        elif not manifest["program"] or not (folder / manifest["program"]).exists():
            raise PipelineError(
                f"there is no exported program {manifest['program'] or ''}: give --module "
                "package.module:factory, a function that returns the nn.Module"
            )
        else:
            program = torch.export.load(folder / manifest["program"])
            self.module = torch.export.unflatten(program)
            example, self._results = program.example_inputs, program.call_spec.out_spec
        self.leaves, self._tree = tree_flatten(example)
        self._examples = [leaf for leaf in self.leaves if isinstance(leaf, torch.Tensor)]
        if len(self._examples) != len(self.specs):
            self._examples = [torch.arange(2).to(_dtype(spec)) for spec in self.specs]
            self.leaves, self._tree = tree_flatten((tuple(self._examples), {}))
        if self._results is None:
            args, kwargs = self.arranged(self.random(0))
            with torch.no_grad():
                self._results = tree_flatten(self.module(*args, **kwargs))[1]

    def results_of(self, sent: Any) -> Any:
        """What the model returns, of the tensors that its last stage gives."""
        return tree_unflatten(tree_leaves(sent), self._results)

    def arranged(self, tensors: list[torch.Tensor]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Positional and named arguments from tensors in order."""
        rest = iter(tensors)
        filled = [next(rest) if isinstance(leaf, torch.Tensor) else leaf for leaf in self.leaves]
        args, kwargs = tree_unflatten(filled, self._tree)
        return tuple(args), dict(kwargs)

    def random(self, seed: int) -> list[torch.Tensor]:
        """A micro-batch; whole numbers are those of the program's example, or else 0 and 1."""
        draw, made = torch.Generator().manual_seed(seed), []
        for spec, example in zip(self.specs, self._examples, strict=True):
            if _dtype(spec).is_floating_point:
                made.append(torch.randn(spec["shape"], generator=draw).to(_dtype(spec)))
            else:
                places = torch.randint(0, example.numel(), spec["shape"], generator=draw)
                made.append(example.flatten()[places].to(_dtype(spec)))
        return made

    def given(self, path: str, count: int) -> list[list[torch.Tensor]]:
        """The micro-batches of a file's mini-batch."""
        loaded = torch.load(path, weights_only=True)
        tensors = list(loaded.values() if isinstance(loaded, dict) else loaded)
        wanted = [[spec["shape"][0] * count, *spec["shape"][1:]] for spec in self.specs]
        if [list(tensor.shape) for tensor in tensors] != wanted:
            raise PipelineError(
                f"{path}: its shapes are {[list(tensor.shape) for tensor in tensors]}; {count} "
                f"micro-batches of {[spec['shape'] for spec in self.specs]} are {wanted}"
            )
        return list(map(list, zip(*(tensor.chunk(count) for tensor in tensors), strict=True)))


class Runner:
    """The stage of this process."""

    def __init__(self, options: argparse.Namespace, manifest: dict[str, Any]) -> None:
        self.options, self.count = options, int(manifest["n_microbatches"])
        self.rank, stages = dist.get_rank(), len(manifest["stages"])
        self.is_last = self.rank == stages - 1
        self.device = torch.device("cpu")
        if options.device == "cuda":
            self.device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
            torch.cuda.set_device(self.device)
        self.model = Model(manifest, options.manifest.parent, options.module)
        args, kwargs = self.model.arranged(self.model.random(0))
        self.whole = copy.deepcopy(self.model.module) if options.check else None
        split = {name: SplitPoint[kind] for name, kind in manifest["split_spec"].items()}
        pipe = pipeline(self.model.module, mb_args=args, mb_kwargs=kwargs, split_spec=split)
        if pipe.num_stages != stages:
            raise PipelineError(
                f"torch makes {pipe.num_stages} stages of the model, the plan has {stages}: one of "
                f"the modules {', '.join(split)} is called several times, or never"
            )
        #: Names of each parameter that several stages have a copy of, and something of its size.
        self.tied = [
            (users, torch.zeros_like(pipe.split_gm.get_submodule(stage).get_parameter(name)))
            for users in pipe.replicated_params
            for stage, name in [next(iter(users.items()))]
        ]
        self.relay = Relay(pipe, self.rank).to(self.device)
        self.loss = _named(options.loss) if options.loss else None
        if options.train and not options.loss:
            self.loss = lambda output, _: output
        entering = self.relay.shapes(pipe, self.relay.entering)
        leaving = self.relay.shapes(pipe, self.relay.leaving)
        stage = PipelineStage(self.relay, self.rank, stages, self.device, entering, leaving)
        schedule = _SCHEDULES[options.schedule or manifest["schedule"]]
        self.schedule = schedule(stage, self.count, self._loss_of if self.loss else None)
        # Nothing may hold the other stages, so that they are let go.
        pipe.split_gm.graph.owning_module = None
        del self.model.module
        self.micro = [self.model.random(1 + number) for number in range(self.count)]
        if options.inputs:
            self.micro = self.model.given(options.inputs, self.count)
        self.targets = torch.zeros(self.count)
        if options.targets:
            self.targets = torch.load(options.targets, weights_only=True)
            if len(self.targets) % self.count:
                raise PipelineError(
                    f"{len(self.targets)} targets do not divide into {self.count} micro-batches"
                )

    def _loss_of(self, sent: Any, target: torch.Tensor) -> torch.Tensor:
        loss: torch.Tensor = self.loss(self.model.results_of(sent), target)  # type: ignore[misc]
        return loss

    def step(self) -> tuple[Any, list[torch.Tensor]]:
        """One mini-batch; on the last stage its outputs (unless they are losses), and losses."""
        inputs: list[torch.Tensor] = []
        if self.rank == 0:
            parts = iter(zip(*self.micro, strict=True))
            for node, leaf in zip(self.relay.places, self.model.leaves, strict=True):
                part = next(parts) if isinstance(leaf, torch.Tensor) else ()
                if part and node in self.relay.entering:
                    inputs.append(torch.cat(part).to(self.device))
        losses: list[torch.Tensor] = []
        extra: dict[str, Any] = {}
        if self.loss and self.is_last:
            extra = {"target": self.targets.to(self.device), "losses": losses}
        with torch.set_grad_enabled(self.loss is not None):
            has_outputs = not self.loss or bool(self.options.loss)
            outputs = self.schedule.step(*inputs, return_outputs=has_outputs, **extra)
        for users, nothing in self.tied if self.loss else ():
            self._add_up(users, nothing)
        return None if outputs is None else self.model.results_of(outputs), losses

    def _add_up(self, users: dict[str, str], nothing: torch.Tensor) -> None:
        """Stages have copies of a parameter that several read: each gets the gradients' sum."""
        name = users.get(self.relay.name)
        mine = self.relay.stage.get_parameter(name) if name else None
        total = nothing.detach().to(self.device, copy=True)
        if mine is not None and mine.grad is not None:
            total += mine.grad
        dist.all_reduce(total)
        if mine is not None:
            mine.grad = total

    def check(self) -> str:
        """Compare with the model in one piece, which takes the micro-batches one by one.

        Raises:
            PipelineError: they differ.
        """
        outputs, losses = self.step()
        if self.whole is None:
            raise PipelineError("start with --check: the model in one piece was not kept")
        whole = self.whole.to(self.device)
        expected: list[list[torch.Tensor]] = []
        expected_losses: list[torch.Tensor] = []
        with torch.set_grad_enabled(self.loss is not None):
            for tensors, target in zip(self.micro, self.targets.chunk(self.count), strict=True):
                args, kwargs = self.model.arranged([one.to(self.device) for one in tensors])
                result = whole(*args, **kwargs)
                expected.append(tree_leaves(result))
                if self.loss:
                    expected_losses.append(self.loss(result, target.to(self.device)))
                    torch.autograd.backward(expected_losses[-1] / self.count)
        pairs: dict[str, tuple[Any, Any]] = {}
        if outputs is not None:
            for place, (mine, parts) in enumerate(
                zip(tree_leaves(outputs), zip(*expected, strict=True), strict=True)
            ):
                pairs[f"output {place}"] = mine, torch.cat(parts)
        if losses:
            pairs["loss"] = torch.stack(losses), torch.stack(expected_losses)
        if self.loss:
            of_whole = dict(whole.named_parameters(remove_duplicate=False))
            for name, parameter in self.relay.stage.named_parameters():
                none = torch.zeros_like(parameter)
                both = (
                    none if one is None else one for one in (parameter.grad, of_whole[name].grad)
                )
                pairs[f"gradient of {name}"] = next(both), next(both)
        for what, (mine, wanted) in pairs.items():
            limit = self.options.tolerance
            try:
                torch.testing.assert_close(mine, wanted, rtol=limit, atol=limit)
            except AssertionError as error:
                raise PipelineError(f"{what} is not that of the whole model: {error}") from error
        return ", ".join(sorted({what.split()[0] for what in pairs})) or "nothing to compare"

    def time(self, count: int) -> float:
        """Median seconds of a mini-batch."""
        taken = []
        for _ in range(_WARM_UP + count):
            self.relay.zero_grad()
            dist.barrier()
            start = time.perf_counter()
            self.step()
            dist.barrier()
            taken.append(time.perf_counter() - start)
        return statistics.median(taken[_WARM_UP:])

    def train(self, steps: int) -> None:
        """Update the parameters of this stage; the last stage prints losses."""
        optimizer = _named(self.options.optimizer)(self.relay.stage.parameters())
        for number in range(steps):
            optimizer.zero_grad()
            _, losses = self.step()
            optimizer.step()
            if losses:
                print(f"step {number}: loss {torch.stack(losses).mean().item():.6g}", flush=True)


def _named(text: str) -> Any:
    """`package.module:name`, from the current folder and this script's too.

    Only what was named is looked for there: installed packages come first.
    """
    module, _, name = text.partition(":")
    for folder in (Path.cwd(), Path(__file__).resolve().parent):
        if str(folder) not in sys.path:
            sys.path.append(str(folder))
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise PipelineError(f"{text}: write package.module:name ({error})") from error


def _dtype(spec: dict[str, Any]) -> torch.dtype:
    dtype: torch.dtype = getattr(torch, spec["dtype"])
    return dtype


def write_tensors(values: Any, path: Path) -> None:
    """Write by torch.save, whole; a link of that name is replaced, what it points to stays."""
    partial = path.with_name(f".{path.name}.{os.getpid()}-{time.time_ns():x}.partial")
    try:
        with partial.open("xb") as file:
            torch.save(values, file)
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--manifest", type=Path, default=MANIFEST)
    parser.add_argument("--module", help="package.module:factory of an nn.Module")
    parser.add_argument("--inputs", help="torch.save of a mini-batch's tensors; else random ones")
    parser.add_argument("--outputs", help="write the outputs there, by torch.save")
    parser.add_argument("--train", action="store_true", help="the model returns its loss")
    parser.add_argument("--loss", help="package.module:function of output and target, a mean")
    parser.add_argument("--targets", help="torch.save of a mini-batch's targets")
    parser.add_argument("--optimizer", help="package.module:function of parameters")
    parser.add_argument("--steps", type=int, default=1, help="updates by the optimizer")
    parser.add_argument("--save", type=Path, help="folder for the stages' parameters")
    parser.add_argument("--check", action="store_true", help="compare with the model in one piece")
    parser.add_argument("--tolerance", type=float, default=1e-4)
    parser.add_argument("--time", type=int, default=0, metavar="N", help="time N mini-batches")
    parser.add_argument("--schedule", choices=_SCHEDULES, help="instead of the chosen one")
    parser.add_argument("--device", choices=("cpu", "cuda"),
                        default="cuda" if torch.cuda.is_available() else "cpu")  # fmt: skip
    options = parser.parse_args()
    # What torch says of itself.
    warnings.filterwarnings("ignore", category=FutureWarning, module="copyreg")
    warnings.filterwarnings("ignore", message="Accessing the data pointer of FakeTensor")
    try:
        _run(options)
    except PipelineError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _run(options: argparse.Namespace) -> None:
    manifest = json.loads(options.manifest.read_text(encoding="utf-8"))
    if manifest["schema_version"] != _VERSION:
        raise PipelineError(f"{options.manifest}: of another version; use the script beside it")
    stages, processes = len(manifest["stages"]), int(os.environ.get("WORLD_SIZE", "1"))
    if stages != processes:
        raise PipelineError(
            f"{stages} stages need as many processes, not {processes}: start it by torchrun "
            f"--nproc-per-node {stages} {sys.argv[0]}"
        )
    if bool(options.loss) != bool(options.targets):
        raise PipelineError("--loss and --targets go together")
    if options.optimizer and not (options.loss or options.train):
        raise PipelineError("--optimizer needs --loss, or --train where the model returns its loss")
    dist.init_process_group("gloo" if options.device == "cpu" else "nccl")
    try:
        _work(Runner(options, manifest), options, manifest)
    finally:
        dist.destroy_process_group()


def _work(runner: Runner, options: argparse.Namespace, manifest: dict[str, Any]) -> None:
    if options.check:
        print(f"stage {runner.rank}: equal ({runner.check()})", flush=True)
    if options.time:
        taken, forecast = runner.time(options.time), ""
        predicted = manifest["predicted"]["schedules"].get(options.schedule or manifest["schedule"])
        if predicted and manifest["training"] == bool(runner.loss):
            forecast = f" (predicted {predicted['seconds']:.6f} s)"
        if runner.is_last:
            print(f"mini-batch: {taken:.6f} s{forecast}", flush=True)
    if options.optimizer:
        runner.train(options.steps)
    elif options.outputs or not (options.check or options.time):
        outputs, losses = runner.step()
        if options.outputs and runner.is_last:
            write_tensors(losses if outputs is None else outputs, Path(options.outputs))
    if options.save:
        options.save.mkdir(parents=True, exist_ok=True)
        write_tensors(runner.relay.stage.state_dict(), options.save / f"stage{runner.rank}.pt")


if __name__ == "__main__":
    sys.exit(main())
