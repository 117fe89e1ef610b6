"""Without room for temporary files, commands end with one line that names the folder and the remedy."""

from __future__ import annotations

import errno
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets.arrow_writer import ArrowWriter

from hpc_bench.adapters.base import DeviceError
from hpc_bench.adapters.device import check_device
from hpc_bench.values import ModelOptions
from tests.support.builders import run_cli, tree, write_sweep
from tests.support.refusals import assert_refused

UNWRITABLE = "/proc/self"
REMEDY = "set TMPDIR to a folder that has room\n"
pytestmark = pytest.mark.usefixtures("no_workers")


@pytest.fixture
def no_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No folder that Python would take can be written, not even by root."""
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: [UNWRITABLE])


def write_parquet_sweep(folder: Path) -> Path:
    row = {"context": "Ann lives here.", "question": "Who?", "answer": "Ann"}
    pq.write_table(pa.Table.from_pylist([row]), folder / "rows.parquet")
    mine = {"data": "rows.parquet", "metric": "qa_f1", "max_new_tokens": 8}
    return write_sweep(folder, model_names=["demo/tiny-2l"], benchmark_configs={"mine": mine})


@pytest.mark.usefixtures("no_temporary_folder")
@pytest.mark.parametrize(
    "command",
    [
        ["plan", "--gpus", "none", "sweep.yaml"],
        ["submit", "--gpus", "none", "sweep.yaml"],
        ["attention", "show", "sweep.yaml", "streaming"],
        ["attention", "train-hash", "demo/tiny-2l", "out.safetensors", "--benchmark", "needle", "--subset", "256"],
    ],
    ids=" ".join,
)
def test_no_temporary_folder_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]) -> None:
    write_parquet_sweep(tmp_path)
    monkeypatch.chdir(tmp_path)
    before = tree(tmp_path)

    assert_refused(run_cli(*command), "temporary files cannot be written", UNWRITABLE, REMEDY)
    assert tree(tmp_path) == before


@pytest.mark.usefixtures("no_temporary_folder")
def test_machine_without_a_temporary_folder_is_to_blame_and_not_its_models() -> None:
    with pytest.raises(DeviceError, match=f"{UNWRITABLE}.*set TMPDIR to a folder that has room"):
        check_device(ModelOptions("demo/tiny-2l"))


def test_temporary_folder_that_refuses_a_new_one_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_parquet_sweep(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", UNWRITABLE)

    assert_refused(run_cli("plan", "--gpus", "none", path), f"the temporary folder {UNWRITABLE}: ", REMEDY)


def test_temporary_folder_that_runs_full_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(*_arguments: Any, **_options: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = write_parquet_sweep(tmp_path)
    monkeypatch.setattr(ArrowWriter, "finalize", write)

    said = f"the temporary folder {tempfile.gettempdir()}: No space left on device; {REMEDY}"
    assert_refused(run_cli("plan", "--gpus", "none", path), said)
