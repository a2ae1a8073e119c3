"""All targets by name."""

from . import model_targets as models
from . import other_targets as others
from .target import Target

_MODELS = ("graphs",)
_TORCH = ("graphs/importers/torch_models", "graphs/costs", "graphs/builder.py", "graphs/importers")

TARGETS: dict[str, Target] = {
    "onnx": Target("ONNX models", models.open_onnx, _MODELS, 60),
    "graphdef": Target("TensorFlow GraphDefs", models.open_graph_def, _MODELS, 30),
    "graphdef-text": Target("GraphDefs as text, gzipped too", models.open_gzipped, _MODELS, 20),
    "savedmodel": Target("SavedModels", models.open_saved_model, _MODELS, 20),
    "pt2": Target("torch.export programs", models.open_exported_program, _TORCH, 150),
    "msr": Target(
        "dnn-partitioning benchmarks", models.open_msr_benchmark, ("graphs", "simulator")
    ),
    "gwgraph": Target("graphwright graph files", models.open_graph_file, ("graphs",)),
    "plan": Target("plan files", others.open_plan, ("placement/plan_file.py", "simulator")),
    "cluster": Target("cluster files", others.open_cluster, ("simulator",)),
    "topology": Target("output of nvidia-smi topo", others.open_topology, ("simulator",)),
    "times": Target("measured kernel times", others.open_kernel_times, ("simulator",)),
    "suite": Target("suites", others.open_suite, ("placement/suites", "simulator")),
    "constraints": Target("constraints", others.open_constraints, ("placement", "simulator")),
    "checkpoint": Target("policies", others.open_checkpoint, ("agent", "envs"), 60),
    "one-shot": Target("one-shot policies", others.open_one_shot, ("agent", "envs"), 60),
}
