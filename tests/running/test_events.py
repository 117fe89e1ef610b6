"""Events and work go through the pipes of an engine and come out as they were."""

from __future__ import annotations

import os
import subprocess
import sys
import typing
from pathlib import Path

import pytest

from hpc_bench.execution.attempts.board import Board
from hpc_bench.execution.attempts.claims import Claim
from hpc_bench.execution.manifest import read_manifest
from hpc_bench.execution.schema import dump_as, parse_as
from hpc_bench.running.engine.events import (
    Answered,
    Answering,
    Broken,
    BundleDone,
    Cause,
    Complete,
    DataFailed,
    DataUnavailable,
    Event,
    Failed,
    Hindered,
    Loaded,
    LoadFailed,
    Outdated,
    Prefilling,
    Progress,
    Retired,
    Scoring,
    Work,
    read_event,
    write_event,
)
from hpc_bench.running.engine.pipe import cause_of
from hpc_bench.running.looking import PatientLook
from hpc_bench.running.worker.schedule import Schedule, Share
from tests.support.builders import prepare, stubs_of

CAUSE = Cause("KeyError", "line\nbreak \u202e 'x'", "Traceback")
EVENTS: list[Event] = [
    Loaded(1.5),
    LoadFailed(CAUSE),
    Broken(CAUSE),
    Prefilling(),
    Answering("key"),
    Answered("key", 3),
    Progress("key", 0, 8),
    Scoring("key"),
    Complete("key"),
    Failed("key", CAUSE),
    Hindered("key", CAUSE),
    DataFailed(CAUSE),
    DataUnavailable(CAUSE, whole=True),
    Outdated(),
    Retired("a reason"),
    BundleDone(),
]


def test_every_event_comes_out_as_it_was() -> None:
    assert {type(event) for event in EVENTS} == set(typing.get_args(Event))
    for event in EVENTS:
        line = write_event(event)
        assert "\n" not in line
        assert read_event(line.encode()) == event


@pytest.mark.parametrize(
    "line",
    [
        "",
        "1",
        "[]",
        "{}",
        '{"event": "Exploded"}',
        '{"event": "Answered", "stub": 1, "done": 2}',
        '{"event": 5}',
        '{"event": ["Loaded"]}',
    ],
)
def test_what_is_not_an_event_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_event(line)


def test_message_with_half_a_surrogate_pair_can_be_sent() -> None:
    cause = cause_of(ValueError("blue \ud83d green"), "kind")

    write_event(Failed("key", cause)).encode()
    assert (cause.error, cause.message) == ("kind", "blue \\ud83d green")


def test_engine_outlives_whatever_is_printed_to_its_log() -> None:
    program = """
from hpc_bench.running.engine.events import Loaded
from hpc_bench.running.engine.pipe import Events
events = Events()
print("a plug-in says \\ud83d \\u00e9", flush=True)
events.send(Loaded(1.5))
"""

    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        check=True,
    )

    assert read_event(done.stdout) == Loaded(1.5)
    assert rb"a plug-in says \ud83d \xe9" in done.stderr


def test_work_comes_out_as_it_was(tmp_path: Path) -> None:
    claims = tuple(Claim(stub, 2, "w.1") for stub in stubs_of(prepare(tmp_path)))
    work = Work(claims, "w.engine1.log")

    assert parse_as(Work, dump_as(Work, work)) == work


def test_claims_of_one_bundle_carry_its_name_and_others_do_not(tmp_path: Path) -> None:
    execution = prepare(tmp_path)
    manifest = read_manifest(execution)
    schedule = Schedule(manifest, Board(execution, manifest.header), "w", Share(0, 1, 0), PatientLook())

    first, second = schedule.claim_next(None), schedule.claim_next(None)

    assert len({claim.bundle for claim in first}) == len({claim.bundle for claim in second}) == 1
    assert first[0].bundle != second[0].bundle
    assert f'"bundle":"{first[0].bundle}"' in execution.claim(first[0].stub.key, 1).read_text()


def test_log_shows_a_cause_on_lines_of_its_own(capfd: pytest.CaptureFixture[str]) -> None:
    code = (
        "from hpc_bench.running.engine.events import Failed\n"
        "from hpc_bench.running.engine.pipe import Events, cause_of\n"
        "try:\n    raise KeyError('bleu')\n"
        "except KeyError as error:\n    Events().send(Failed('key', cause_of(error)))\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    log = capfd.readouterr().err.splitlines()
    assert log[0].endswith("Failed key KeyError: 'bleu'")
    assert log[1] == "Traceback (most recent call last):"
    assert log[-1] == "KeyError: 'bleu'"
