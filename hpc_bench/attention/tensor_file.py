"""Files of tensors that maskers need: checked by their shapes while planning, loaded by the engine; never unpickled."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from hpc_bench.places import check_temporary_folder, pointer_problem

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["check_file", "check_shapes", "load_tensors", "tensor_shapes"]

_SAFE = ".safetensors"
_TORCH = (".pt", ".pth", ".bin")
_MOST_SHOWN = 3


def check_file(name: str, path: str, command: str) -> None:
    """ValueError unless `path` is an existing file of a kind that is read.

    `name`: the parameter; `command`: what makes such files.
    """
    if Path(path).suffix not in (_SAFE, *_TORCH):
        raise ValueError(f"{name} must be a file ending in {', '.join((_SAFE, *_TORCH))}; {path!r} is not")
    try:
        exists = Path(path).expanduser().is_file()
    except (OSError, RuntimeError) as error:  # RuntimeError: the home of an unknown user
        raise ValueError(f"{name}: {path} cannot be read: {error}") from error
    if not exists:
        raise ValueError(
            f"{name}: {path} does not exist; make it with `hpc-bench attention {command}`, or fix the path"
        )
    if problem := pointer_problem(Path(path).expanduser()):
        raise ValueError(f"{name}: {problem}")


def check_shapes(name: str, path: str, wanted: Mapping[str, tuple[int, ...]]) -> None:
    """ValueError with what was expected and what was found, unless the file holds exactly these tensors."""
    found = tensor_shapes(path)
    wrong = [
        f"{key} {list(size)} (found: {_shown(found.get(key))})"
        for key, size in wanted.items()
        if found.get(key) != size
    ]
    spare = [key for key in found if key not in wanted]
    if wrong:
        more = f" and {len(wrong) - _MOST_SHOWN} more" if len(wrong) > _MOST_SHOWN else ""
        raise ValueError(f"{name}: {path} does not fit the model: expected {', '.join(wrong[:_MOST_SHOWN])}{more}")
    if spare:
        more = ", ..." if len(spare) > _MOST_SHOWN else ""
        raise ValueError(
            f"{name}: {path} does not fit the model: it also holds {', '.join(spare[:_MOST_SHOWN])}{more}, where "
            f"{len(wanted)} tensors are expected"
        )


def _shown(size: tuple[int, ...] | None) -> str:
    return "nothing" if size is None else str(list(size))


@cache
def tensor_shapes(path: str) -> Mapping[str, tuple[int, ...]]:
    """Name -> shape; torch's own format is looked into by another process, so that this one imports no torch."""
    file = Path(path).expanduser()
    if file.suffix == _SAFE:
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(file, framework="np") as tensors:
                return {key: tuple(tensors.get_slice(key).get_shape()) for key in tensors.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{path} cannot be read as safetensors: {error}") from error
    check_temporary_folder()
    look = [sys.executable, "-P", "-m", "hpc_bench.attention.tensor_file", str(file)]
    done = subprocess.run(look, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(f"{path} cannot be read: {(done.stderr.strip().splitlines() or ['no reason given'])[-1]}")
    return {key: tuple(size) for key, size in json.loads(done.stdout).items()}


@cache
def load_tensors(path: str) -> Mapping[str, Tensor]:
    """All tensors of a file, on the CPU; ValueError if it holds anything else."""
    file = Path(path).expanduser()
    if file.suffix == _SAFE:
        from safetensors.torch import load_file

        return load_file(file)
    import torch

    loaded = torch.load(file, map_location="cpu", weights_only=True)
    if not isinstance(loaded, dict) or not all(isinstance(value, torch.Tensor) for value in loaded.values()):
        raise ValueError(f"{path} holds something else than named tensors")
    return loaded


if __name__ == "__main__":
    print(json.dumps({key: list(value.shape) for key, value in load_tensors(sys.argv[1]).items()}))  # noqa: T201
