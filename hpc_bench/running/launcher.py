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

__all__ = ["run_launcher"]


def run_launcher(
    module: str, work: str, log: Path, *, timeout_s: float | None = None, environment: Mapping[str, str] | None = None
) -> str:
    """What went wrong, by the last line of its log, or nothing. `work`: what it reads from standard input.

    BackendError if it cannot be run, or has not ended after `timeout_s`, and then it goes on.
    """
    try:
        code = _run([sys.executable, "-P", "-m", module], work, log, timeout_s, environment)
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


def _run(
    command: list[str], work: str, log: Path, timeout_s: float | None, environment: Mapping[str, str] | None
) -> int:
    # Whatever is started from here on imports nothing from the present folder, whoever put a random.py there.
    safe = {**(os.environ if environment is None else environment), "PYTHONSAFEPATH": "1"}
    with open(log, "ab", opener=own_opener) as output:
        launcher = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=output, stderr=output, start_new_session=True, env=safe
        )
    try:
        launcher.communicate(work.encode(), timeout=timeout_s)
    except KeyboardInterrupt:
        if launcher.stdin:
            with suppress(OSError):
                launcher.stdin.close()
        launcher.wait(timeout_s)  # half a submission could be neither followed nor stopped
        raise
    return launcher.returncode
