"""Data-sheet figures of devices and interconnects that presets are made of.

Peaks are the vendors' dense figures (float16 and TF32 on tensor cores where they exist; half of a
figure that a sheet gives with sparsity). Bandwidths of
links are what copies reach in practice: about four fifths of the wire rate.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from simulator.clusters.cluster import Device

GIB = 1 << 30


@dataclass(frozen=True)
class LinkSpec:
    """One direction of an interconnect."""

    bytes_per_second: float
    latency_seconds: float


#: Shares of the roofline that vendor libraries reach for typical layer sizes.
GPU_EFFICIENCY: Mapping[str, float] = {
    "matmul": 0.65,
    "conv": 0.55,
    "conv_grad": 0.50,
    "depthwise_conv": 0.15,
    "recurrent": 0.45,
    "attention": 0.50,
    "elementwise": 0.80,
    "activation": 0.75,
    "reduce": 0.65,
    "normalization": 0.60,
    "normalization_grad": 0.55,
    "softmax": 0.60,
    "gather": 0.50,
    "scatter": 0.35,
    "transpose": 0.60,
    "sort": 0.20,
    "custom": 0.50,
}
CPU_EFFICIENCY: Mapping[str, float] = {
    "matmul": 0.75,
    "conv": 0.60,
    "conv_grad": 0.45,
    "depthwise_conv": 0.25,
    "recurrent": 0.50,
    "attention": 0.50,
    "elementwise": 0.60,
    "activation": 0.40,
    "gather": 0.40,
    "scatter": 0.30,
}


def _gpu(
    kind: str,
    gib: int,
    float32: float,
    float16: float,
    terabytes_per_second: float,
    launch: float,
    tf32: float | None = None,
) -> Device:
    teraflops = {"float32": float32, "float16": float16, "bfloat16": float16}
    if tf32 is not None:
        teraflops["tf32"] = tf32
    return Device(
        name=kind,
        kind=kind,
        memory_bytes=gib * GIB,
        flops_per_second={dtype: value * 1e12 for dtype, value in teraflops.items()},
        memory_bytes_per_second=terabytes_per_second * 1e12,
        launch_seconds=launch,
        efficiency=GPU_EFFICIENCY,
    )


DEVICE_SPECS: Mapping[str, Device] = {
    "p100": _gpu("p100", 16, 9.3, 18.7, 0.732, 6e-6),
    "v100": _gpu("v100", 16, 15.7, 125.0, 0.900, 5e-6),
    "t4": _gpu("t4", 16, 8.1, 65.0, 0.320, 5e-6),
    "a10": _gpu("a10", 24, 31.2, 125.0, 0.600, 4e-6, 62.5),
    "a100": _gpu("a100", 40, 19.5, 312.0, 1.555, 4e-6, 156.0),
    # NVIDIA A100 80GB data sheet, SXM (June 2021).
    "a100sxm80": _gpu("a100sxm80", 80, 19.5, 312.0, 2.039, 4e-6, 156.0),
    "h100": _gpu("h100", 80, 67.0, 989.0, 3.350, 3e-6, 494.7),
    # NVIDIA H200 data sheet, SXM (2024): the H100's compute, 141 GB of HBM3e.
    "h200": _gpu("h200", 140, 67.0, 989.0, 4.800, 3e-6, 494.7),
    # NVIDIA L4 data sheet (2023): 242 TFLOPS of float16 with sparsity, half of it without.
    "l4": _gpu("l4", 24, 30.3, 121.0, 0.300, 4e-6, 60.0),
    # NVIDIA L40S data sheet (2023): 733 TFLOPS of float16 with sparsity, half of it without.
    "l40s": _gpu("l40s", 48, 91.6, 362.0, 0.864, 4e-6, 183.0),
    # AMD Instinct MI300X data sheet (2023).
    "mi300x": _gpu("mi300x", 192, 163.4, 1307.4, 5.300, 5e-6, 653.7),
    "rtx4090": _gpu("rtx4090", 24, 82.6, 165.0, 1.008, 3e-6, 82.6),
    "cpu": Device(
        name="cpu",
        kind="cpu",
        memory_bytes=256 * GIB,
        flops_per_second={"float32": 1.5e12, "float64": 0.75e12, "int8": 6e12},
        memory_bytes_per_second=100e9,
        launch_seconds=1e-6,
        efficiency=CPU_EFFICIENCY,
    ),
}

#: PCI Express by device kind: the generation that its boards have.
PCIE: Mapping[str, LinkSpec] = {
    **dict.fromkeys(("p100", "v100", "t4"), LinkSpec(12e9, 10e-6)),
    **dict.fromkeys(
        ("a10", "a100", "a100sxm80", "l4", "l40s", "rtx4090", "cpu"), LinkSpec(24e9, 8e-6)
    ),
    **dict.fromkeys(("h100", "h200", "mi300x"), LinkSpec(50e9, 6e-6)),
}
NVLINK: Mapping[str, LinkSpec] = {
    "p100": LinkSpec(18e9, 8e-6),
    "v100": LinkSpec(45e9, 6e-6),
    **dict.fromkeys(("a100", "a100sxm80"), LinkSpec(250e9, 4e-6)),
    **dict.fromkeys(("h100", "h200"), LinkSpec(380e9, 4e-6)),
}
#: Links that a card has, and how many of them `NVLINK` states together: those between two cards
#: that are wired to each other, or all of a card that is wired to a switch.
NVLINK_PORTS: Mapping[str, int] = {
    "p100": 4, "v100": 6, "a100": 12, "a100sxm80": 12, "h100": 18, "h200": 18,
}  # fmt: skip
NVLINK_STATED: Mapping[str, int] = {
    "p100": 1, "v100": 2, "a100": 12, "a100sxm80": 12, "h100": 18, "h200": 18,
}  # fmt: skip
#: A 100 Gbit/s network card per node, without GPUDirect.
ETHERNET = LinkSpec(10e9, 30e-6)

#: Devices whose links lead to a switch that joins them all at full rate.
SWITCHED = frozenset({"a100", "a100sxm80", "h100", "h200"})
