"""Writes TensorFlow graphs and SavedModels that say where, and in which order, each node runs."""

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import graph_pb2
from tensorflow.core.protobuf import saved_model_pb2

from graphs.importers.tensorflow_models.files import parse_file
from graphs.whole_files import whole_folder, write_whole
from placement.export.errors import ExportError
from placement.export.request import Exported, ExportRequest
from placement.export.tensorflow_clusters import cluster_groups
from placement.export.tensorflow_devices import device_targets, place_nodes
from placement.export.tensorflow_schedule import pin_order

_SAVED_MODEL = ("saved_model.pb", "saved_model.pbtxt")


def export_graph_def(request: ExportRequest) -> Exported:
    """Write `<model>.placed.pb`.

    `targets` are TensorFlow's device names; without them the n-th CPU of the cluster is
    `/device:CPU:n` and the n-th other device `/device:GPU:n`.

    Raises:
        ModelError: the model cannot be read.
        ExportError: it is a SavedModel, or what was asked for cannot be said in a GraphDef.
    """
    if _saved_model(request.model) is not None:
        raise ExportError(f"{request.model}: a SavedModel; export it as saved-model")
    graph_def = parse_file(request.model, graph_pb2.GraphDef, "GraphDef")
    notes = _place(graph_def, request)
    path = request.out / f"{request.stem}.placed.pb"
    write_whole(path, graph_def.SerializeToString(deterministic=True))
    return Exported("graph-def", (path,), notes)


def export_saved_model(request: ExportRequest) -> Exported:
    """Write the folder `<model>.placed`, whose variables and assets are links to the originals.

    Raises:
        ModelError: the model cannot be read.
        ExportError: it is no SavedModel, the folder exists, or as `export_graph_def`.
    """
    source = _saved_model(request.model)
    if source is None:
        raise ExportError(f"{request.model}: no SavedModel; export it as graph-def")
    model = parse_file(source, saved_model_pb2.SavedModel, "SavedModel")
    graphs = list(model.meta_graphs)
    meta = next((graph for graph in graphs if "serve" in graph.meta_info_def.tags), graphs[0])
    notes = _place(meta.graph_def, request)
    folder = request.out / f"{request.stem}.placed"
    if folder.exists():
        raise ExportError(f"{folder} exists; remove it or export elsewhere")
    with whole_folder(folder) as partial:
        for path in sorted(source.parent.rglob("*")):
            if path.is_file() and path.name not in _SAVED_MODEL:
                _link(path, partial / path.relative_to(source.parent))
        write_whole(partial / "saved_model.pb", model.SerializeToString(deterministic=True))
    return Exported("saved-model", (folder,), notes)


def _place(graph_def: Any, request: ExportRequest) -> tuple[str, ...]:
    count = place_nodes(graph_def, request)
    if count == 0:
        raise ExportError(
            f"{request.model}: no node of it is in graph {request.graph.name!r}; give the model "
            "that the plan was made for"
        )
    used = sorted(set(request.plan.devices.tolist()))
    names = ", ".join(
        f"{request.cluster.devices[device].name} is {device_targets(request)[device]}"
        for device in used
    )
    notes = [f"{count} nodes placed: {names}."]
    plan = replace(request.plan, fusion=np.full(len(request.plan.devices), -1, np.int32))
    if request.fusion:
        groups = len(set(request.plan.fusion.tolist()) - {-1})
        clusters, plan = cluster_groups(graph_def, request)
        notes.append(f"{clusters} of {groups} fusion groups are XLA clusters.")
        if clusters < groups:
            notes.append("The others hold state or lie inside of functions.")
    if request.schedule:
        notes.append(pin_order(graph_def, request, plan).sentence())
    else:
        notes.extend(f"{note} --schedule does." for note in request.notes_on_holds)
    _check(graph_def, request)
    return tuple(notes)


def _check(graph_def: Any, request: ExportRequest) -> None:
    """TensorFlow's own check of a GraphDef: import it."""
    try:
        with tf.Graph().as_default():
            tf.graph_util.import_graph_def(graph_def, name="")
    except (ValueError, TypeError, tf.errors.OpError) as error:
        first = str(error).splitlines()[0][:300]
        raise ExportError(
            f"{request.model}: TensorFlow refuses the placed graph ({first})"
        ) from error


def _saved_model(path: Path) -> Path | None:
    """The protobuf of a SavedModel, given its folder or itself."""
    if path.name in _SAVED_MODEL:
        return path
    return next((path / name for name in _SAVED_MODEL if (path / name).exists()), None)


def _link(source: Path, target: Path) -> None:
    """The same file under another name, or a copy where the file system knows no links."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copy2(source, target)
