"""Runs the program that starts workers in a session of its own, so that no closed shell and no Ctrl-C ends it amid."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from hpc_bench.errors import BackendError
from hpc_bench.files import own_opener
from hpc_bench.running.turn import HeldTurn

__all__ = ["run_launcher"]


def run_launcher(
    module: str,
    work: str,
    log: Path,
    turn: HeldTurn,
    *,
    timeout_s: float | None = None,
    environment: Mapping[str, str] | None = None,
) -> str:
    """What went wrong, by the last line of its log, or nothing. `work`: what it reads from standard input; `turn`: what
    it holds as well, and keeps fresh.

    BackendError if it cannot be run, or has not ended after `timeout_s`, and then it goes on.
    """
    # Whatever is started from here on imports nothing from the present folder, whoever put a random.py there.
    safe = {**(os.environ if environment is None else environment), "PYTHONSAFEPATH": "1"}
    try:
        with open(log, "ab", opener=own_opener) as output:
            launcher = subprocess.Popen(
                [sys.executable, "-P", "-m", module, str(turn.path)],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                start_new_session=True,
                env=safe,
            )
        code = _instruct(launcher, work, turn, timeout_s)
    except OSError as error:
        raise BackendError(f"workers cannot be started: {log}: {error.strerror}") from error
    except subprocess.TimeoutExpired as error:
        raise BackendError(
            f"the submission has not ended after {timeout_s:g} s; it goes on in the background (log: {log}), and "
            "`hpc-bench status` shows what comes of it"
        ) from error
    if not code:
        return ""
    lines = log.read_text(errors="replace").strip().splitlines()
    return f"{lines[-1] if lines else 'no reason given'} (log: {log})"


def _instruct(launcher: subprocess.Popen[bytes], work: str, turn: HeldTurn, timeout_s: float | None) -> int:
    """The exit code of a launcher that is told what to start once the turn is its own as well: without that, which is
    less than the whole `work`, it starts nothing.
    """
    try:
        turn.share(launcher)
        launcher.communicate(work.encode(), timeout=timeout_s)
    except OSError:
        launcher.kill()
        launcher.communicate()
        raise
    except KeyboardInterrupt:
        if launcher.stdin:
            with suppress(OSError):
                launcher.stdin.close()
        launcher.wait(timeout_s)  # half a submission could be neither followed nor stopped
        raise
    return launcher.returncode
