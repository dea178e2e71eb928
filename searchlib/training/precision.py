"""Which library multiplies float32 matrices on a CPU, and how exactly: a setting of torch for the whole process."""

from __future__ import annotations

import functools
from typing import Any

from searchlib.errors import DeviceError


def setting_for(precision: str) -> str:
    """torch's setting for products in *precision*, ``float32`` or ``bfloat16``; sums are float32 in both.

    ``ieee``: torch's own choice, on x86 MKL. ``bf16``: oneDNN, which may round factors to bfloat16 and does so where
    the CPU has tiles for it (AMX). On AMD's CPUs it rounds nothing, and takes 10 to 20 % less time than MKL for the
    products of a stack (``docs/speed.md``): there it multiplies in float32 as well.
    """
    return "bf16" if precision == "bfloat16" or _onednn_is_faster_and_exact() else "ieee"


def get_products() -> str:
    """The setting in force."""
    setting: str = _matmul().fp32_precision
    return setting


def set_products(setting: str) -> None:
    """Multiply by this setting from now on, in all threads."""
    _matmul().fp32_precision = setting


def rounds_to_bfloat16() -> bool:
    """Whether oneDNN does round where it may: tried out, since of CPUs with such instructions not all do."""
    import torch

    before, rounded = get_products(), False
    try:
        for *several, rows, columns, inner in ((256, 256, 784), (1800, 32, 784), (1800, 784, 32), (18, 10, 64, 100)):
            left = torch.linspace(1.0, 2.0, rows * inner).view(rows, inner).expand(*several, -1, -1)
            right = torch.linspace(1.0, 2.0, columns * inner).view(columns, inner).expand(*several, -1, -1)
            found = []
            for setting in ("ieee", "bf16"):
                set_products(setting)
                found.append(left @ right.mT)
            rounded |= bool(((found[1] / found[0] - 1.0).abs() > 1e-5).any())
    finally:
        set_products(before)
    return rounded


@functools.cache
def _onednn_is_faster_and_exact() -> bool:
    import torch

    cpu = torch.cpu.get_capabilities()
    return "AMD" in str(cpu.get("cpu_name")) and not cpu.get("amx_tile") and not rounds_to_bfloat16()


def _matmul() -> Any:
    import torch

    mkldnn: Any = torch.backends.mkldnn
    return mkldnn.matmul


def resolve_device(name: str) -> str:
    """The torch device for *name*: ``auto`` takes CUDA, then MPS, then the CPU. DeviceError if it isn't there."""
    import torch

    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return next(kind for kind in ("cuda", "mps", "cpu") if available[kind])
    kind, colon, index = name.partition(":")
    if kind not in available or (colon and not index.isdecimal()):
        raise DeviceError(f"unknown device {name!r}; expected auto, cpu, cuda, cuda:N or mps")
    if not available[kind] or (kind == "cuda" and int(index or 0) >= torch.cuda.device_count()):
        there = [kind for kind, is_there in available.items() if is_there]
        raise DeviceError(f"device {name!r} isn't there; this machine has {', '.join(there)}")
    return name


def check_precision(precision: str, device: str) -> None:
    """DeviceError where *device* multiplies in no such precision: torch itself would go on in float32."""
    if precision == "float32" or (device.startswith("cpu") and rounds_to_bfloat16()):
        return
    raise DeviceError(
        f"precision='bfloat16' isn't there on device {device!r}: it needs a CPU on which oneDNN rounds factors to "
        "bfloat16, such as one with AMX; take precision='float32'"
    )
