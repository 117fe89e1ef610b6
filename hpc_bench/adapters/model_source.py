"""Where a model comes from: shipped with the package, a local folder, or a hub; and what identifies its weights."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from hpc_bench.errors import SweepError, unknown_name
from hpc_bench.hub_files import model_files
from hpc_bench.places import find_path, pointer_problem
from hpc_bench.values import Json

__all__ = ["ModelSource", "find_model"]

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_WHOLE_BELOW = 32 * 2**20
_SAMPLE = 2**20


@dataclass(frozen=True)
class ModelSource:
    """A model that a sweep names."""

    title: str
    """The name in tables and, sanitized, in paths: for a local folder its last component and a short hash."""
    source: str
    """What the adapter loads: a folder or a hub name."""
    identity: dict[str, Json]
    """Goes into the fingerprint: hub name and revision, or a digest of the files."""
    on_hub: bool = False


def find_model(name: str, revision: str | None, folder: Path = Path()) -> ModelSource:
    """The source of a model that is named in a sweep in `folder`, or on a command line in the present folder;
    SweepError if the name can be none of the three.
    """
    if name.startswith("demo/"):
        demo = Path(str(files("hpc_bench"))) / "demo"
        shipped = [f"demo/{path.name}" for path in sorted(demo.iterdir()) if (path / "config.json").exists()]
        if name not in shipped:
            raise SweepError(unknown_name("demo model", name, shipped))
        path = demo / name.removeprefix("demo/")
        return ModelSource(name, str(path), {"name": name, "files": _digest(path)})
    try:
        if name.startswith(("/", "./", "../", "~", "$")) or (folder / name).is_dir() or Path(name).is_dir():
            return _local_model(name, find_path(name, folder).resolve())
    except (OSError, ValueError) as error:
        raise SweepError(
            str(error) if isinstance(error, ValueError) else f"{name!r} cannot be read: {error}"
        ) from error
    if not _HUB_NAME.fullmatch(name) or ".." in name or len(name) > 150:
        raise SweepError(f"{name!r} is neither a hub name such as Qwen/Qwen3-8B nor an existing folder")
    return ModelSource(name, name, {"name": name, "revision": revision or "main"}, on_hub=True)


def _local_model(name: str, path: Path) -> ModelSource:
    if not str(path).isprintable():  # where a link leads to
        raise SweepError(f"{name!r} is the folder {str(path)!r}, whose name has invisible characters; rename it")
    if not (path / "config.json").is_file():
        raise SweepError(f"{name!r} is not a model folder (no config.json in {path})")
    for file in model_files(entry.name for entry in path.iterdir() if entry.is_file()):
        if problem := pointer_problem(path / file):
            raise SweepError(problem)
    digest = _digest(path)
    return ModelSource(f"{path.name}-{digest[:8]}", str(path), {"files": digest})


def _digest(folder: Path) -> str:
    """Of every file's name, size and content; of files above 32 MiB the first and last MiB stand for the content.

    Weights of many gigabytes would take minutes to read whole; safetensors files of one architecture have the same
    size, but differ in the sampled weights as soon as they were trained.
    """
    total = hashlib.sha256()
    for path in sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")):
        size = path.stat().st_size
        with path.open("rb") as file:
            content = file.read(_SAMPLE if size > _WHOLE_BELOW else -1)
            if size > _WHOLE_BELOW:
                file.seek(size - _SAMPLE)
                content += file.read()
        total.update(f"{path.name}\0{size}\0".encode() + hashlib.sha256(content).digest())
    return total.hexdigest()
