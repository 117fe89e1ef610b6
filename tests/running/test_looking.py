"""What workers and engines read of the shared filesystem may fail for a while."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from hpc_bench.errors import ExecutionError
from hpc_bench.execution.attempts import board as boards
from hpc_bench.execution.attempts.board import Board
from hpc_bench.execution.manifest import read_manifest
from hpc_bench.files import list_names
from hpc_bench.running import looking
from hpc_bench.running.looking import PatientLook
from hpc_bench.running.worker.schedule import Schedule, Share
from tests.support.builders import fail, prepare, stubs_of


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looking, "PAUSE_S", 0.0)


def failing(times: int, error: Exception) -> Callable[[], str]:
    """Fails so often, then answers."""
    left = [error] * times

    def read() -> str:
        if left:
            raise left.pop()
        return "seen"

    return read


def os_error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


def wrapped(error: OSError) -> ExecutionError:
    """As the readers of an execution raise it."""
    made = ExecutionError("manifest.jsonl: cannot be read")
    made.__cause__ = error
    return made


@pytest.mark.parametrize("number", [errno.ESTALE, errno.EIO, errno.ETIMEDOUT])
def test_error_that_passes_is_waited_out_and_the_worker_says_that_it_lives(number: int) -> None:
    look, said = PatientLook(), []
    look.meanwhile = lambda: said.append("alive")

    assert look.at(failing(3, os_error(number))) == "seen"
    assert look.at(failing(2, wrapped(os_error(number)))) == "seen"
    assert len(said) == 5


@pytest.mark.parametrize("error", [os_error(errno.ENOENT), os_error(errno.EACCES), ExecutionError("is corrupt")])
def test_error_that_does_not_pass_is_raised_at_once(error: Exception) -> None:
    look, said = PatientLook(), []
    look.meanwhile = lambda: said.append("alive")

    with pytest.raises(type(error)):
        look.at(failing(1, error))

    assert said == []


def test_patience_ends() -> None:
    look = PatientLook(patience_s=0.0)

    with pytest.raises(OSError, match="Stale"):
        look.at(failing(1000000, os_error(errno.ESTALE)))


def test_schedule_outlives_folders_that_cannot_be_listed_for_a_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    execution = prepare(tmp_path)
    manifest = read_manifest(execution)
    schedule = Schedule(manifest, Board(execution, manifest.header), "w", Share(0, 1, 0), PatientLook())
    stale = failing(2, os_error(errno.ESTALE))

    monkeypatch.setattr(
        boards, "list_names", lambda folder: [stale() and name for name in list_names(folder)] or (stale() and [])
    )
    claims = schedule.claim_next(None)

    assert {claim.stub.bundle for claim in claims} == {claims[0].stub.bundle}
    assert len(claims) == 2


def test_reader_who_is_told_to_stop_waits_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looking, "LAST_WORDS_S", 0.0)
    look, tries = PatientLook(), []
    look.is_stopped = lambda: len(tries) == 2

    def read() -> str:
        tries.append("failed")
        raise os_error(errno.ESTALE)

    with pytest.raises(OSError, match=os.strerror(errno.ESTALE)):
        look.at(read)
    assert len(tries) == 2


def test_outcome_that_cannot_be_read_for_a_moment_is_no_corrupt_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    execution = prepare(tmp_path)
    stub = stubs_of(execution)[0]
    fail(execution, stub)
    board = Board(execution, read_manifest(execution).header)
    board.refresh()
    left, os_open = [os_error(errno.ESTALE)], os.open

    def once(path: Path, *how: int) -> int:
        if left and path.parent == execution.outcomes:
            raise left.pop()
        return os_open(path, *how)

    monkeypatch.setattr(os, "open", once)

    assert PatientLook().at(lambda: board.outcome(stub.key, 1)).error != "CorruptOutcome"
    assert not left
