"""Which device a model runs on, and whether that device works; never a silent fall back to the CPU."""

from __future__ import annotations

import os

from hpc_bench.adapters.base import DeviceError
from hpc_bench.errors import TemporaryFolderError
from hpc_bench.places import check_temporary_folder
from hpc_bench.values import ModelOptions

__all__ = ["DEVICES", "check_device", "device_name", "peak_memory_gb"]

DEVICES = ("auto", "cpu", "cuda")
_NO_GPU = ("", "-1", "none", "nodevfiles")  # NoDevFiles is what Slurm writes for a job without GPUs
_SIDE = 64


def check_device(options: ModelOptions) -> str:
    """The device type for `options`, "cpu" or "cuda", after a small product on each of its devices came out right."""
    try:
        check_temporary_folder()
    except TemporaryFolderError as error:
        raise DeviceError(str(error)) from error
    import torch

    kind = _pick_device(options.device)
    if kind == "cpu":
        _multiply("cpu")
        return kind
    try:
        found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    except RuntimeError as error:
        raise DeviceError(f"CUDA cannot be started: {error}") from error
    if found < options.gpus:
        mask = os.environ.get("CUDA_VISIBLE_DEVICES")
        raise DeviceError(
            f"{options.gpus} GPU(s) are needed, but PyTorch {torch.__version__} can use {found} "
            f"(CUDA_VISIBLE_DEVICES={mask!r}); fix the driver, or set device: cpu"
        )
    for index in range(options.gpus):
        _multiply(f"cuda:{index}")
    return kind


def _pick_device(wanted: str) -> str:
    """auto means the GPU where the slot was given one, working or not."""
    import torch

    if wanted != "auto":
        return wanted
    slot_has_gpu = os.environ.get("CUDA_VISIBLE_DEVICES", "").strip().lower() not in _NO_GPU
    return "cuda" if slot_has_gpu or torch.cuda.is_available() else "cpu"


def _multiply(device: str) -> None:
    import torch

    try:
        ones = torch.ones(_SIDE, _SIDE, device=device)
        total = float((ones @ ones).sum())
    except torch.OutOfMemoryError:
        raise  # the GPU works, others fill it
    except (RuntimeError, AssertionError) as error:
        raise DeviceError(f"{device} cannot multiply two {_SIDE} x {_SIDE} matrices: {error}") from error
    if total != _SIDE**3:
        raise DeviceError(f"{device} computes wrongly: {total} where {_SIDE**3} is right")


def device_name(kind: str) -> str:
    """The model name of the GPU, or the CPU's architecture."""
    import platform

    import torch

    return str(torch.cuda.get_device_name(0)) if kind == "cuda" else f"CPU ({platform.machine()})"


def peak_memory_gb(kind: str) -> float:
    """The most that this process has held so far: of the memory of its GPUs together, or of the host."""
    import resource

    import torch

    if kind == "cpu":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return sum(torch.cuda.max_memory_allocated(index) for index in range(torch.cuda.device_count())) / 2**30
