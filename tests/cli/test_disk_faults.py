"""Disks that refuse or run full: one line, and everything as it was before."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.builders import prepare, publish, run_cli, stubs_of, tree, write_sweep
from tests.support.refusals import assert_refused

pytestmark = pytest.mark.usefixtures("no_workers")


@pytest.mark.parametrize("command", ["plan", "submit"])
def test_base_result_dir_that_is_a_file_is_refused(tmp_path: Path, command: str) -> None:
    (tmp_path / "taken").write_text("mine")
    for base in (tmp_path / "taken", tmp_path / "taken" / "below"):
        path = write_sweep(tmp_path, base_result_dir=str(base))
        before = tree(tmp_path)

        result = run_cli(command, "--gpus", "none", path)

        assert_refused(result, str(path), "base_result_dir: ", str(base), "choose a folder, not a file")
        assert tree(tmp_path) == before


def test_base_result_dir_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    path = write_sweep(tmp_path, base_result_dir="/proc/results")  # even root may not create this
    before = tree(tmp_path)

    assert_refused(run_cli("submit", "--gpus", "none", path), "base_result_dir: ", "/proc/results", "choose")
    assert tree(tmp_path) == before


def test_base_result_dir_that_is_not_utf8_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / os.fsdecode(b"caf\xe9")
    home.mkdir()
    path = write_sweep(tmp_path, base_result_dir="results")
    monkeypatch.chdir(home)

    assert_refused(run_cli("submit", "--gpus", "none", path), "base_result_dir: ", "not UTF-8", "rename the folder")
    assert not list(home.iterdir())


@pytest.mark.parametrize("base_exists", [True, False])
def test_full_disk_is_one_line_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base_exists: bool
) -> None:
    path = write_sweep(tmp_path, base_result_dir=str(tmp_path / "deep" / "results"))
    if base_exists:
        (tmp_path / "deep" / "results").mkdir(parents=True)
    before = tree(tmp_path)

    def fsync(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fsync)
    result = run_cli("submit", "--gpus", "none", path)

    assert_refused(result, "base_result_dir: ", "No space left on device", "free some space")
    assert tree(tmp_path) == before


def test_full_disk_on_resuming_leaves_the_execution_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(tmp_path / "results")
    path = write_sweep(tmp_path, limits={"max_attempts": 5})  # else the manifest stays as it is
    before = tree(tmp_path)
    real, calls = os.fsync, iter(range(1000))

    def fsync(descriptor: int) -> None:
        if next(calls) >= 2:  # the copy of the earlier manifest still fits
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    result = run_cli("submit", "--gpus", "none", path)

    assert_refused(result, "base_result_dir: ", "No space left on device")
    assert tree(tmp_path) == before


def test_write_that_the_kernel_cuts_off_leaves_nothing(tmp_path: Path) -> None:
    path = write_sweep(tmp_path)
    before = tree(tmp_path)

    done = subprocess.run(
        [sys.executable, "-m", "hpc_bench", "submit", "--gpus", "none", str(path)],
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64)),
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        check=False,
    )

    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("Error: ")
    assert done.stderr.count("\n") == 1
    assert "File too large" in done.stderr
    assert tree(tmp_path) == before


def test_summary_that_cannot_be_written_is_still_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    execution = prepare(tmp_path / "results")
    publish(execution, stubs_of(execution)[0])

    def fsync(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = tree(tmp_path)
    monkeypatch.setattr(os, "fsync", fsync)
    result = run_cli("collect", execution.path)

    assert_refused(result, str(execution.path), "No space left on device")
    assert "1 complete" in result.stdout
    assert tree(tmp_path) == before
