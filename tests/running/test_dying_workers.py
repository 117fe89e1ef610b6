"""Workers that end before they say a word, and launches that fail: replaced, tried again or reported at once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.running import PATIENCE_S, results, write_scripted_sweep

DYING = Path(__file__).parents[1] / "support" / "dying"
WORKER, LAUNCHER = "submitit.core._submit", "hpc_bench.running.local_launch"
SUBMIT_WITH_LONG_GRACE = f"""
from hpc_bench.cli import main
from hpc_bench.running import crew, status
crew.RETRY_S = 0.2
status.START_GRACE_S = {2 * PATIENCE_S}
main(["submit", "--gpus", "none", SWEEP])
"""


def submit(
    sweep: Path, monkeypatch: pytest.MonkeyPatch, *, workers: Sequence[int] = (), launchers: Sequence[int] = ()
) -> subprocess.CompletedProcess[str]:
    """A submit to its end, in which the workers and launchers that are started as these end at once."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(DYING), str(Path(__file__).parents[2])]))
    monkeypatch.setenv("DYING", json.dumps({WORKER: list(workers), LAUNCHER: list(launchers)}))
    monkeypatch.setenv("DYING_FOLDER", str(sweep.parent))
    code = SUBMIT_WITH_LONG_GRACE.replace("SWEEP", repr(str(sweep)))
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE_S, check=False)


def starts(sweep: Path, module: str) -> int:
    return len(list(sweep.parent.glob(f"{module}.*")))


def test_workers_that_end_before_their_first_word_are_replaced_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = write_scripted_sweep(tmp_path)

    done = submit(sweep, monkeypatch, workers=[0, 1])

    assert done.returncode == 0, done.stdout + done.stderr
    assert "a worker ended before its first word" in done.stdout
    assert len(results(sweep)) == 4


def test_workers_that_never_say_a_word_are_given_up_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = write_scripted_sweep(tmp_path, max_concurrent_runs=1)

    done = submit(sweep, monkeypatch, workers=range(100))

    assert done.returncode == 1, done.stdout + done.stderr
    assert starts(sweep, WORKER) == 1 + 2


def test_replacement_that_cannot_be_started_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = write_scripted_sweep(tmp_path, max_concurrent_runs=1)

    done = submit(sweep, monkeypatch, workers=[0], launchers=[1])

    assert done.returncode == 0, done.stdout + done.stderr
    assert "No space left on device" in done.stdout
    assert "trying again" in " ".join(done.stdout.split())  # a long line is wrapped
    assert len(results(sweep)) == 4


@pytest.mark.parametrize("launchers", [[0], [1, 2, 3]])
def test_launch_that_keeps_failing_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, launchers: list[int]
) -> None:
    sweep = write_scripted_sweep(tmp_path, max_concurrent_runs=1)

    done = submit(sweep, monkeypatch, workers=[0], launchers=launchers)

    assert done.returncode == 2, done.stdout
    assert done.stderr.startswith("Error: workers cannot be started: No space left on device")
    assert done.stderr.count("\n") == 1
    assert starts(sweep, LAUNCHER) == launchers[-1] + 1
