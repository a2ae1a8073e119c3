"""The script that makes the corpus of real models, on models that fit on a page."""

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmarks.data.real_graphs.build import graph_of
from benchmarks.data.real_graphs.catalogue import models
from benchmarks.data.real_graphs.corpus import read_manifest, write_corpus
from benchmarks.data.real_graphs.families import KIN, Split, kin_of, split_of
from benchmarks.data.real_graphs.likeness import likeness, neighbourhoods
from benchmarks.data.real_graphs.model import Loss, RealModel
from benchmarks.data.real_graphs.unfilled import built_unfilled
from graphs.graph_file import read_graph
from graphs.kinds import Phase
from graphs.real_graphs import load_real, real_graphs

DEPTH = 80


class Tied(nn.Module):
    """An embedding, two products of one matrix, and a layer that nothing reads."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, 4)
        self.first = nn.Linear(4, 4)
        self.second = nn.Linear(4, 4)
        self.second.weight = self.first.weight
        self.unread = nn.Linear(4, 4)
        self.head = nn.Linear(4, 11, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> dict[str, Tensor]:
        hidden = self.second(torch.relu(self.first(self.embedding(tokens))))
        return {"aside": self.unread(hidden), "logits": self.head(hidden)}


def tied(**more: Any) -> RealModel:
    def inputs(batch: int) -> dict[str, Tensor]:
        return {"tokens": torch.ones(batch, 5, dtype=torch.int64)}

    return RealModel("tied", "bert", "torch", Tied, inputs, outputs=("logits",), **more)


def test_a_forward_pass_has_the_calls_of_the_program() -> None:
    graph = graph_of(tied(batch=3), "tied")
    counts = Counter(name for name in graph.op_types if name.startswith("aten."))
    program = torch.export.export(Tied().eval(), (torch.ones(3, 5, dtype=torch.int64),))
    calls = Counter(str(node.target) for node in program.graph.nodes if node.op == "call_function")
    calls["aten.linear.default"] -= 1  # of the layer that is not picked
    assert counts == calls
    assert counts["aten.linear.default"] == 3


def test_a_training_step_updates_each_parameter_once() -> None:
    graph = graph_of(tied(training_batch=3, optimizer="sgd"), "tied-train")
    updated = [name for name, phase in zip(graph.op_names, graph.phases, strict=True)
               if phase == Phase.UPDATE]  # fmt: skip
    # The embedding (which is the head), one matrix, two biases; not the layer that is not read.
    assert len(updated) == 4
    assert graph.op_types.count("aten._log_softmax.default") == 1


def test_weights_are_not_drawn() -> None:
    drawn = []

    def build() -> nn.Module:
        layer = nn.Linear(4, 4)
        drawn.append(layer.weight.detach().clone())
        with torch.no_grad():
            layer.weight.zero_()
            nn.init.normal_(layer.weight)
            layer.weight.uniform_(1.0, 2.0)
            nn.init.trunc_normal_(layer.bias.fill_(9.0), a=-1.0, b=1.0)  # not in range, for ever
        return layer

    layer = built_unfilled(build)
    assert isinstance(layer, nn.Linear)
    assert not layer.weight.any()
    assert layer.bias.eq(9.0).all()


class Deep(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(nn.Linear(4, 4) for _ in range(DEPTH)))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = torch.relu(layer(x))
        return x


class Broken(Deep):
    def forward(self, x: Tensor) -> Tensor:
        return x * x.sum().item() if x.sum() > 0 else x


def deep(name: str, kind: type[nn.Module]) -> RealModel:
    return RealModel(
        name, "resnet", "torch", kind, lambda batch: {"x": torch.ones(batch, 4)}, Loss.VALUES
    )


def test_a_corpus_is_written_once_and_says_what_is_left_out(tmp_path: Path) -> None:
    said: list[str] = []
    wanted = (deep("deep", Deep), deep("broken", Broken), deep("again", Deep), tied())
    left_out = write_corpus(wanted, graph_of, tmp_path, 60, said.append)
    reasons = {item.name: item.reason for item in left_out}
    assert set(reasons) == {"broken", "again", "tied"}
    assert reasons["again"] == "ValueError: the same graph as deep"
    assert "wanted are 150 to 12,000" in reasons["tied"]
    manifest = read_manifest(tmp_path)
    (row,) = manifest["graphs"]
    graph = read_graph(tmp_path / "deep.gwgraph", {})
    assert (row["digest"], row["ops"], row["batch"]) == (graph.digest, graph.op_count, 1)
    assert (row["inputs"], row["kin"], row["training"]) == ({"x": [1, 4]}, "residual", False)
    assert graph.op_count == 2 * DEPTH + 1
    assert {item["name"] for item in manifest["left_out"]} == set(reasons)
    # What is there is kept, with the split of now; what was left out is tried again.
    stale = {**row, "split": "elsewhere"}
    document = {**manifest, "graphs": [stale]}
    (tmp_path / "manifest.json").write_text(json.dumps(document), encoding="utf-8")
    said.clear()
    write_corpus(wanted[:2], graph_of, tmp_path, 60, said.append)
    assert len(said) == 1
    assert said[0].startswith("left out broken")
    assert read_manifest(tmp_path)["graphs"] == manifest["graphs"]


def test_kin_share_a_split_and_the_split_is_fixed() -> None:
    assert len({family for families in KIN.values() for family in families}) == sum(
        len(families) for families in KIN.values()
    )
    assert kin_of("deit") == kin_of("beit") == kin_of("vit")
    assert kin_of("mistral") == kin_of("qwen") == kin_of("llama")
    assert kin_of("never-heard-of") == "never-heard-of"
    fixed = {"resnet": Split.TRAIN, "vit": Split.TRAIN, "bert": Split.TRAIN, "llama": Split.TEST,
             "t5": Split.TEST, "unet": Split.TEST, "mixtral": Split.TEST, "nasnet": Split.TEST,
             "swin": Split.VALIDATION, "densenet": Split.VALIDATION}  # fmt: skip
    assert {family: split_of(family) for family in fixed} == fixed


def test_the_manifest_that_ships_follows_the_families() -> None:
    for row in real_graphs().values():
        assert (row.kin, row.split) == (kin_of(row.family), split_of(row.family)), row.name


def test_the_catalogue_names_every_graph_once() -> None:
    catalogue = models()
    names = [name for model in catalogue for name in model.graph_names]
    assert len(set(names)) == len(names)
    assert set(real_graphs()) <= set(names)
    first = [model.family for model in catalogue]
    # No family's second model comes before another's first.
    assert len(set(first[: len(set(first))])) == len(set(first))


def test_no_graph_of_the_test_split_is_a_near_copy_of_one_in_training() -> None:
    found: dict[str, list[Mapping[int, float]]] = {"train": [], "test": []}
    for row in real_graphs().values():
        if row.split in found:
            found[row.split].append(neighbourhoods(load_real(row.name)))
    assert max(likeness(one, other) for one in found["test"] for other in found["train"]) < 0.85


def test_likeness_by_hand() -> None:
    """A chain of 80 layers and one of 40 differ at their beginnings alone."""
    layers = [layer for _ in range(DEPTH // 2) for layer in (nn.Linear(4, 4), nn.ReLU())]
    shallow = RealModel(
        "half", "resnet", "torch", lambda: nn.Sequential(*layers),
        lambda batch: {"input": torch.ones(batch, 4)}, Loss.VALUES,
    )  # fmt: skip
    one = neighbourhoods(graph_of(deep("deep", Deep), "deep"))
    half = neighbourhoods(graph_of(shallow, "half"))
    other = neighbourhoods(graph_of(tied(), "tied"))
    assert likeness(one, one) == pytest.approx(1.0)
    # Five of 161 ops have less than four producers above them, and so have five of 81.
    assert likeness(one, half) == pytest.approx(5 / 161 + 76 / 81)
    assert likeness(one, other) < 0.1
