"""The GPUs of this machine, asked from the driver without a CUDA context in this process."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import pynvml

from hpc_bench.errors import BackendError

__all__ = ["Gpu", "device_mask", "driver_version", "used_memory_gb", "visible_gpus"]


@dataclass(frozen=True)
class Gpu:
    """A GPU that this process may use."""

    index: int
    """As the user counts: 0 is the first visible one."""
    mask: str
    """Its entry in CUDA_VISIBLE_DEVICES."""
    name: str


@contextmanager
def _driver() -> Iterator[bool]:
    """Whether there is a driver to ask."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        yield False
        return
    try:
        yield True
    finally:
        pynvml.nvmlShutdown()


def visible_gpus() -> list[Gpu]:
    """The GPUs that CUDA_VISIBLE_DEVICES leaves visible, or all; none on a machine without an NVIDIA driver."""
    with _driver() as present:
        if not present:
            return []
        known = dict(_answering_gpus())
    inherited = os.environ.get("CUDA_VISIBLE_DEVICES")
    if inherited is None:
        return [Gpu(index, uuid, name) for index, (uuid, name) in known.items()]
    entries = [entry.strip() for entry in inherited.split(",") if entry.strip()]
    usable: list[Gpu] = []
    for entry in entries:
        name = _name_of(entry, known)
        if not name:  # CUDA itself ignores everything behind the first invalid entry
            break
        usable.append(Gpu(len(usable), entry, name))
    return usable


def _answering_gpus() -> Iterator[tuple[int, tuple[str, str]]]:
    """The driver's index -> (uuid, name), without GPUs that fell off the bus."""
    for index in range(pynvml.nvmlDeviceGetCount()):
        try:
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            yield index, (_text(pynvml.nvmlDeviceGetUUID(handle)), _text(pynvml.nvmlDeviceGetName(handle)))
        except pynvml.NVMLError:
            continue


def _name_of(entry: str, known: Mapping[int, tuple[str, str]]) -> str:
    """The name of the GPU behind an entry of CUDA_VISIBLE_DEVICES; empty if there is none."""
    if entry.isascii() and entry.isdigit():
        return known.get(int(entry), ("", ""))[1]
    if entry.startswith("MIG-"):
        return "MIG"
    matches = [name for uuid, name in known.values() if uuid.startswith(entry)]
    return matches[0] if len(matches) == 1 else ""


def device_mask(ids: Sequence[int], visible: Sequence[Gpu]) -> list[str]:
    """The CUDA_VISIBLE_DEVICES entries of the GPUs that the user names; BackendError for one that does not exist."""
    masks = {gpu.index: gpu.mask for gpu in visible}
    for index in ids:
        if index not in masks:
            known = ", ".join(f"{gpu.index} ({gpu.name})" for gpu in visible) or "none; --gpus none runs on the CPU"
            raise BackendError(f"--gpus: there is no GPU {index} here (visible: {known})")
    return [masks[index] for index in ids]


def used_memory_gb(mask: str) -> float | None:
    """The memory in use on a slot's GPUs, by all processes; None where the driver does not tell."""
    with _driver() as present:
        if not present:
            return None
        try:
            used = [pynvml.nvmlDeviceGetMemoryInfo(_handle(entry)).used for entry in mask.split(",")]
        except (pynvml.NVMLError, ValueError):
            return None
    return float(sum(used)) / 2**30


def driver_version() -> str | None:
    """The NVIDIA driver's version; None where there is none."""
    with _driver() as present:
        return _text(pynvml.nvmlSystemGetDriverVersion()) if present else None


def _handle(entry: str) -> object:
    if entry.isascii() and entry.isdigit():
        return pynvml.nvmlDeviceGetHandleByIndex(int(entry))
    return pynvml.nvmlDeviceGetHandleByUUID(entry)


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
