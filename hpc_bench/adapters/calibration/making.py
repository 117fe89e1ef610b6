"""Makes a file for one model: load, read the texts, learn, write, measure on the texts that were held out."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hpc_bench.adapters.base import AdapterError
from hpc_bench.adapters.calibration.capture import Piece, capture_pieces
from hpc_bench.adapters.calibration.request import FileRequest
from hpc_bench.errors import SweepError
from hpc_bench.files import new_private_file, sync_folder
from hpc_bench.places import check_temporary_folder

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Material", "Stage", "gather", "write_tensors"]

Stage = Callable[[str, int], Callable[[], None]]
"""Is told what comes next and of how many steps that consists; gives what to call after each step."""

_HELD_OUT = 4


@dataclass(frozen=True)
class Material:
    """What a model made of the texts."""

    pieces: Sequence[Piece]
    """To learn from."""
    held_out: Sequence[Piece]
    """To measure on: one text in four, at least one."""
    device: str
    """Where to compute."""


def gather(request: FileRequest, stage: Stage) -> Material:
    """Loads the model, has it read the texts, and lets it go again; SweepError if that cannot be done."""
    check_temporary_folder()
    from transformers.utils.logging import disable_progress_bar

    from hpc_bench.adapters.huggingface import HuggingFaceAdapter

    disable_progress_bar()  # of its own, which would stand before an error's one line
    options = request.options()
    try:
        device = HuggingFaceAdapter.check_device(options)
        adapter = HuggingFaceAdapter.load(options)
    except (AdapterError, ValueError) as error:
        raise SweepError(str(error)) from error
    texts = request.load_texts(adapter)
    pieces = capture_pieces(adapter, texts, stage("reading texts", len(texts)))
    chosen = set(range(_HELD_OUT - 1, len(pieces), _HELD_OUT)) or {len(pieces) - 1}
    learned = [piece for number, piece in enumerate(pieces) if number not in chosen]
    return Material(learned, [pieces[number] for number in sorted(chosen)], device)


def write_tensors(path: Path, tensors: Mapping[str, Tensor], made_by: str) -> None:
    """Creates a safetensors file at once; SweepError if there is one by now, or if it cannot be written.

    `made_by` is all of its metadata, since of several entries safetensors does not keep the order, and equal files are
    to be equal byte for byte.
    """
    from safetensors.torch import save_file

    temporary = None
    try:
        temporary = new_private_file(path.parent)
        save_file({name: part.contiguous() for name, part in tensors.items()}, temporary, {"made_by": made_by})
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        if path.exists():
            raise SweepError("came into being meanwhile, and is left as it is; name another file", str(path))
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise SweepError(f"cannot be written: {error.strerror or error}", str(path)) from error
    finally:
        with suppress(OSError):
            if temporary:
                temporary.unlink(missing_ok=True)
