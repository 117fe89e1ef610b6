"""The folder of jobs, whose pickles are executed, is its owner's alone; others can still follow and sum up."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hpc_bench.execution.folder import ExecutionDir
from hpc_bench.execution.heartbeat import Heartbeat, this_process, write_heartbeat
from hpc_bench.execution.slot import Slot
from hpc_bench.execution.submission import Submission, write_submission
from tests.support.builders import claim, prepare, publish, run_cli, stubs_of, write_sweep

NOBODY = 65534


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o777


def execution_in(folder: Path) -> ExecutionDir:
    """What `submit` prepares for the sweep that `write_sweep` writes."""
    return prepare(folder / "results")


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that everybody can read, which pytest's own is not."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@contextmanager
def as_nobody() -> Iterator[None]:
    """With the rights of another user, as far as files are concerned."""
    groups = os.getgroups()
    os.setgroups([])
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setgroups(groups)


@pytest.mark.parametrize("mask", [0o000, 0o002, 0o022, 0o077])
def test_folder_of_jobs_is_private_whatever_the_umask(tmp_path: Path, mask: int) -> None:
    (tmp_path / "results").mkdir()
    before = os.umask(mask)
    try:
        execution = execution_in(tmp_path)
    finally:
        os.umask(before)

    assert mode_of(execution.jobs) == 0o700


def test_folder_of_an_earlier_version_is_closed_and_goes_on(tmp_path: Path) -> None:
    execution = execution_in(tmp_path)
    execution.jobs.chmod(0o755)

    assert execution_in(tmp_path) == execution

    assert mode_of(execution.jobs) == 0o700


@pytest.mark.usefixtures("no_workers")
@pytest.mark.parametrize("mode", [0o775, 0o757, 0o777])
def test_submit_refuses_a_folder_that_others_may_write_to(tmp_path: Path, mode: int) -> None:
    execution = execution_in(tmp_path)
    execution.jobs.chmod(mode)

    refused = run_cli("submit", "--gpus", "none", write_sweep(tmp_path))

    assert refused.exit_code == 2
    assert f"Error: {execution.jobs}: others may write to it" in refused.output
    assert f"chmod go-w {execution.jobs}" in refused.output
    assert mode_of(execution.jobs) == mode


@pytest.mark.usefixtures("no_workers")
def test_submit_refuses_a_folder_of_somebody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    execution = execution_in(tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: execution.jobs.stat().st_uid + 1)

    refused = run_cli("submit", "--gpus", "none", write_sweep(tmp_path))

    assert refused.exit_code == 2
    assert f"Error: {execution.jobs}: belongs to " in refused.output
    assert "--new" in refused.output


def test_link_in_the_place_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    execution = execution_in(tmp_path)
    execution.jobs.rmdir()
    (tmp_path / "elsewhere").mkdir(mode=0o755)
    execution.jobs.symlink_to(tmp_path / "elsewhere")

    refused = run_cli("submit", "--gpus", "none", write_sweep(tmp_path))

    assert refused.exit_code == 2
    assert mode_of(tmp_path / "elsewhere") == 0o755


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
def test_colleague_sees_counts_workers_and_the_summary(open_folder: Path) -> None:
    execution = execution_in(open_folder)
    first, second, *_ = stubs_of(execution)
    publish(execution, first)
    beat = Heartbeat("local-1-0.a", Slot("local-1", 0), "local", this_process(), "running", stub=second.key)
    write_heartbeat(execution, beat)
    claim(execution, second, beat.worker)
    write_submission(execution, Submission("local-1", "local", "node7", ()))
    owners = run_cli("status", open_folder / "results")

    with as_nobody():
        status = run_cli("status", open_folder / "results")
        collected = run_cli("collect", open_folder / "results")

    assert "12 stubs: 1 complete, 0 failed, 1 running, 10 pending" in status.output
    assert set(owners.output.splitlines()) < set(status.output.splitlines())
    assert f"{execution.jobs}: only its owner can look into it" in status.output
    assert "12 stubs: 1 complete" in collected.output


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
@pytest.mark.parametrize("command", ["logs", "cancel"])
def test_colleague_is_told_what_only_the_owner_can_do(open_folder: Path, command: str) -> None:
    execution = execution_in(open_folder)
    arguments = [stubs_of(execution)[0].title] if command == "logs" else []
    run_cli(command, open_folder / "results", *arguments)

    with as_nobody():
        refused = run_cli(command, open_folder / "results", *arguments)

    assert refused.exit_code == 2
    assert f"Error: {execution.jobs}: belongs to somebody else, who alone can" in refused.output
