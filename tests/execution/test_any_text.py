"""Whatever a message holds, it can be written, read back and shown: also half of a surrogate pair."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from hpc_bench.execution.attempts.claims import read_outcome
from hpc_bench.execution.heartbeat import Heartbeat, read_workers, this_process, write_heartbeat
from hpc_bench.execution.slot import Slot
from hpc_bench.files import write_whole
from tests.support.builders import fail, prepare, run_cli, stubs_of
from tests.support.running import HPC_BENCH

HALF = "blue \ud83d green"
ESCAPED = r"blue \ud83d green"


def test_worker_that_gives_half_a_pair_as_its_reason_can_be_read(tmp_path: Path) -> None:
    execution = prepare(tmp_path)
    write_heartbeat(execution, Heartbeat("s-0.abc", Slot("s", 0), "local", this_process(), state="broken", reason=HALF))

    (worker,) = read_workers(execution, 180).values()

    assert (worker.heartbeat.state, worker.heartbeat.reason) == ("broken", ESCAPED)
    assert f"{ESCAPED}" in run_cli("status", execution.path).stdout


def test_outcome_with_half_a_pair_is_utf8_and_reads_as_it_was(tmp_path: Path) -> None:
    execution = prepare(tmp_path)
    fail(execution, stubs_of(execution)[0], message=HALF)
    (path,) = execution.outcomes.iterdir()

    text = path.read_text(encoding="utf-8")

    assert json.loads(text)["message"] == read_outcome(path).message == HALF


def test_text_with_half_a_pair_is_written_as_its_escape(tmp_path: Path) -> None:
    write_whole(tmp_path / "text", HALF)

    assert (tmp_path / "text").read_text(encoding="utf-8") == ESCAPED


def test_command_says_a_path_that_its_output_cannot_hold(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/\xff.yaml"

    done = subprocess.run(
        [*HPC_BENCH, "init", path],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "utf-8:strict"},
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert rb"/\udcff.yaml; run it with" in done.stdout
