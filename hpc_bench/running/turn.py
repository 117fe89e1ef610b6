"""One at a time: two calls of `submit` that both count what is there and then start workers would start too many."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from hpc_bench.errors import BackendError
from hpc_bench.execution.folder import ExecutionDir
from hpc_bench.execution.heartbeat import Process, Silence, child_process, this_process
from hpc_bench.execution.schema import dump_as, read_as
from hpc_bench.files import create_exclusive, filesystem_now, list_names, write_whole

__all__ = ["SILENT_S", "HeldTurn", "Turn", "keep_fresh", "submitting_alone"]

REFRESH_S = 5.0
SILENT_S = 60.0
"""A turn that was not refreshed for so long is taken for one whose process is gone."""
LONGEST_WAIT_S = 1800.0
"""Longer than any launch takes."""
POLL_S = 0.2


@dataclass(frozen=True)
class Turn:
    """Who submits workers at present."""

    process: Process
    launcher: Process | None = None
    """Its child that starts the workers, and goes on if the process is killed."""
    over: bool = False


class HeldTurn:
    """The turn that this process has."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._launcher: subprocess.Popen[bytes] | None = None

    def share(self, launcher: subprocess.Popen[bytes]) -> None:
        """Has the turn last at least as long as a child, which is told what to start only afterwards."""
        turn = Turn(this_process(), child_process(launcher.pid))
        write_whole(self.path, dump_as(Turn, turn))
        self._launcher = launcher

    def end(self) -> None:
        """Leaves the turn to a launcher that still goes on."""
        goes_on = self._launcher is not None and self._launcher.poll() is None
        last = (
            Turn(child_process(self._launcher.pid)) if self._launcher and goes_on else Turn(this_process(), over=True)
        )
        write_whole(self.path, dump_as(Turn, last))


@contextmanager
def submitting_alone(execution: ExecutionDir) -> Iterator[HeldTurn]:
    """Waits until nobody else submits workers for the execution; a turn of a dead process is over.

    BackendError if turns cannot be written, or if it takes too long.
    """
    try:
        turn = HeldTurn(_take(execution))
    except OSError as error:
        raise BackendError(f"{execution.turns}: cannot be used: {error.strerror}; make it a writable folder") from error
    try:
        with keep_fresh(turn.path):
            yield turn
    finally:
        with suppress(OSError):  # then it is over once it has been silent for long enough
            turn.end()


@contextmanager
def keep_fresh(turn: Path) -> Iterator[None]:
    """Shows other machines that the turn is not over, as its process and launcher both do."""
    done = threading.Event()
    refresher = threading.Thread(target=_refresh, args=(turn, done), daemon=True)
    refresher.start()
    try:
        yield
    finally:
        done.set()
        refresher.join()


def _take(execution: ExecutionDir) -> Path:
    """The file of a turn of our own. Turns are numbered, and none is ever deleted, so that a number has one holder."""
    execution.turns.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + LONGEST_WAIT_S
    silence = Silence()
    while True:
        number = max((int(name) for name in list_names(execution.turns) if _is_number(name)), default=0)
        last = execution.turn(number)
        if not number or _is_silent(last, silence, filesystem_now(execution.state)) or _is_over(last):
            mine = execution.turn(number + 1)
            if create_exclusive(mine, dump_as(Turn, Turn(this_process()))):
                return mine
            continue
        if time.monotonic() > deadline:
            raise BackendError(
                f"{last}: another submit has been starting workers for {LONGEST_WAIT_S / 60:g} minutes; "
                "end that process, and submit again"
            )
        time.sleep(POLL_S)


def _is_number(name: str) -> bool:
    return name.isascii() and name.isdigit() and len(name) < 10


def _is_silent(path: Path, silence: Silence, now: float) -> bool:
    try:
        return silence.of(path, now) > SILENT_S
    except OSError:
        return True


def _is_over(path: Path) -> bool:
    try:
        turn = read_as(Turn, path)
    except (OSError, ValueError):  # damaged: its age decides
        return False
    holders = [turn.process, turn.launcher] if turn.launcher else [turn.process]
    return turn.over or all(holder.is_gone() for holder in holders)


def _refresh(path: Path, done: threading.Event) -> None:
    while not done.wait(REFRESH_S):
        with suppress(OSError):
            os.utime(path)
