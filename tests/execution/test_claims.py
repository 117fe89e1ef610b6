"""Claims are exclusive, the dead are proven dead, and the state of a stub follows."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hpc_bench.execution.attempts.board import Board, claim_attempt
from hpc_bench.execution.attempts.claims import Claim, Outcome, write_outcome
from hpc_bench.execution.folder import ExecutionDir
from hpc_bench.execution.heartbeat import Heartbeat, Process, this_process, write_heartbeat
from hpc_bench.execution.manifest import Manifest, write_manifest
from hpc_bench.execution.slot import Slot
from hpc_bench.execution.stub import Stub
from hpc_bench.files import create_exclusive
from hpc_bench.sweep.expand import expand_sweep
from hpc_bench.sweep.sweep import load_sweep
from tests.support.running import wait_until, write_scripted_sweep

LEASE_S = 60.0
LIMITS = {"lease": "60s"}


@dataclasses.dataclass
class Scene:
    execution: ExecutionDir
    manifest: Manifest
    board: Board

    @property
    def stub(self) -> Stub:
        return self.manifest.stubs[0]

    def beat(self, worker: str, *, process: Process | None = None, silent_s: float = 0, **changes: object) -> None:
        beat = Heartbeat(worker, Slot("s", 0), "local", process or this_process(), **changes)  # type: ignore[arg-type]
        write_heartbeat(self.execution, beat)
        moment = time.time() - silent_s
        os.utime(self.execution.heartbeat(worker), (moment, moment))

    def state(self) -> str:
        self.board.refresh()
        return self.board.state(self.stub).state

    def claim(self, worker: str) -> Claim | None:
        self.board.refresh()
        return claim_attempt(self.board, self.stub, worker)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    manifest = expand_sweep(load_sweep(write_scripted_sweep(tmp_path, limits=LIMITS)))
    execution = ExecutionDir.create(tmp_path / "results")
    write_manifest(execution, manifest)
    return Scene(execution, manifest, Board(execution, manifest.header))


def elsewhere(**changes: object) -> Process:
    return dataclasses.replace(this_process(), host="another-node", **changes)  # type: ignore[arg-type]


HAMMER = """
import sys
from pathlib import Path
from hpc_bench.files import create_exclusive
folder, me = Path(sys.argv[1]), sys.argv[2]
print(sum(create_exclusive(folder / f"stub{n}.1", me) for n in range(200)))
"""


def test_each_claim_has_exactly_one_winner_among_many_processes(tmp_path: Path) -> None:
    commands = [[sys.executable, "-c", HAMMER, str(tmp_path), str(me)] for me in range(6)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for command in commands]

    wins = [int(process.communicate()[0]) for process in processes]

    assert sum(wins) == 200
    assert len(list(tmp_path.iterdir())) == 200


def test_link_that_reports_an_error_but_happened_counts_as_won(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.link

    def link(source: Path, target: Path) -> None:
        real(source, target)
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "link", link)

    assert create_exclusive(tmp_path / "claim", "mine") is True
    assert create_exclusive(tmp_path / "claim", "again") is False
    assert (tmp_path / "claim").read_text() == "mine"


def test_claimed_stub_is_running_and_cannot_be_claimed_again(scene: Scene) -> None:
    scene.beat("one")
    first = scene.claim("one")
    stale_board = scene.board

    assert first
    assert first.attempt == 1
    assert claim_attempt(stale_board, scene.stub, "two") is None
    assert scene.state() == "running"


def test_worker_elsewhere_is_dead_only_after_its_lease(scene: Scene) -> None:
    scene.beat("one", process=elsewhere())
    scene.claim("one")

    scene.beat("one", process=elsewhere(), silent_s=LEASE_S - 20)
    alive = scene.state()
    scene.beat("one", process=elsewhere(), silent_s=LEASE_S + 20)
    dead = scene.state()

    assert (alive, dead) == ("running", "pending")


def test_lease_is_measured_by_the_filesystems_clock(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.beat("one", process=elsewhere())
    scene.claim("one")

    monkeypatch.setattr(time, "time", lambda: 4e9)  # this host's clock is wrong by decades

    assert scene.state() == "running"


@pytest.mark.parametrize("change", [{"pid": 2**22 - 3}, {"started_ticks": 1}])
def test_worker_here_is_dead_as_soon_as_its_process_is_gone(scene: Scene, change: dict[str, int]) -> None:
    gone = dataclasses.replace(this_process(), **change)  # type: ignore[arg-type]
    scene.beat("one", process=gone)
    scene.claim("one")

    assert scene.state() == "pending"


def test_process_of_another_container_on_this_host_is_not_judged_by_pid(scene: Scene) -> None:
    scene.beat("one", process=dataclasses.replace(this_process(), pid_space="pid:[1]", pid=2**22 - 3))
    scene.claim("one")

    assert scene.state() == "running"


def test_claim_whose_worker_is_not_visible_yet_counts_as_held(scene: Scene) -> None:
    scene.claim("invisible")

    assert scene.state() == "running"


def lose(scene: Scene, worker: str, **said: object) -> None:
    """One attempt of a worker that dies without a word, `said` of its last heartbeat."""
    scene.beat(worker)
    assert scene.claim(worker)
    scene.beat(worker, process=elsewhere(), silent_s=2 * LEASE_S, **said)


def answering(scene: Scene, **said: object) -> dict[str, object]:
    return {"samples": {scene.stub.key: (0, 8)}, "state": "running", **said}


def charged(scene: Scene) -> list[str]:
    """How each attempt ended."""
    scene.board.refresh()
    last = scene.board.state(scene.stub).attempt
    return [end.state for end in scene.board.earlier_outcomes(scene.stub.key, last + 1)]


def test_third_worker_in_a_row_that_dies_amid_a_stub_is_charged_to_it(scene: Scene) -> None:
    states = []
    for number in range(6):
        lose(scene, f"w{number}", **answering(scene))
        states.append(scene.state())

    assert charged(scene) == ["released", "released", "failed"] * 2
    assert states == ["pending"] * 5 + ["failed"]
    end = scene.board.outcome(scene.stub.key, 6)
    assert (end.error, end.phase, end.death) == ("WorkerLost", "answering", True)
    assert "3 times in a row" in end.message


@pytest.mark.parametrize(
    "said",
    [
        {"samples": {}},  # it never came to this stub
        {"stub": "another"},
        {"gained": 1},
    ],
    ids=["not reached", "another was answered", "new samples"],
)
def test_worker_that_dies_is_not_charged_to_a_stub_that_did_not_stop_it(scene: Scene, said: dict[str, object]) -> None:
    for number in range(7):
        lose(scene, f"w{number}", **answering(scene, **said))

    assert charged(scene) == ["released"] * 7
    assert scene.state() == "pending"


def test_new_sample_between_deaths_starts_the_count_anew(scene: Scene) -> None:
    for number, gained in enumerate([0, 0, 1, 0, 0, 1, 0, 0]):
        lose(scene, f"w{number}", **answering(scene, gained=gained))

    assert charged(scene) == ["released"] * 8


def test_releases_between_deaths_do_not_start_the_count_anew(scene: Scene) -> None:
    for number in range(3):
        lose(scene, f"w{number}", **answering(scene))
        if number < 2:
            scene.beat("polite")
            claim = scene.claim("polite")
            assert claim
            write_outcome(scene.execution, claim, Outcome("released", "Released", "walltime"))

    assert charged(scene) == ["released"] * 4 + ["failed"]


def test_fifth_worker_in_a_row_that_dies_while_loading_on_one_node_is_charged(scene: Scene) -> None:
    for number in range(5):
        lose(scene, f"w{number}", **answering(scene, state="loading"))
        if number == 2:
            scene.beat("other")
            assert scene.claim("other")
            there = elsewhere(pid_space="another")
            said = {**answering(scene, state="loading")}
            scene.beat("other", process=dataclasses.replace(there, host="third-node"), silent_s=2 * LEASE_S, **said)

    assert charged(scene) == ["released"] * 5 + ["failed"]


def test_outcome_of_a_lost_worker_is_written_once_by_who_claims_next(scene: Scene) -> None:
    lose(scene, "first", **answering(scene, gained=3))
    path = scene.execution.outcome(scene.stub.key, 1)
    assert scene.state() == "pending"
    assert not path.exists()  # a look changes nothing

    scene.beat("second")
    assert scene.claim("second")

    written = json.loads(path.read_text())
    assert (written["state"], written["error"], written["gained"]) == ("released", "WorkerLost", 3)
    scene.execution.heartbeat("first").unlink()
    scene.board.refresh()
    assert scene.board.outcome(scene.stub.key, 1).gained == 3


def test_attempts_of_earlier_versions_without_outcome_are_judged_alike(scene: Scene) -> None:
    for number in range(1, 4):
        scene.beat(f"w{number}", process=elsewhere(), silent_s=2 * LEASE_S, **answering(scene))
        scene.execution.claim(scene.stub.key, number).write_text(json.dumps({"worker": f"w{number}"}))

    assert charged(scene) == ["released", "released", "failed"]


def test_first_outcome_stands(scene: Scene) -> None:
    scene.beat("one")
    claim = scene.claim("one")
    assert claim

    write_outcome(scene.execution, claim, Outcome("failed", "First", ""))
    write_outcome(scene.execution, claim, Outcome("released", "Second", ""))

    scene.board.refresh()
    assert scene.board.outcome(scene.stub.key, 1).error == "First"


def test_stub_published_meanwhile_is_not_claimed(scene: Scene) -> None:
    scene.board.refresh()
    scene.execution.result(scene.stub.result_path).mkdir(parents=True)

    assert claim_attempt(scene.board, scene.stub, "one") is None


def test_worker_whose_heartbeat_cannot_be_read_is_judged_by_its_age(scene: Scene) -> None:
    scene.beat("slot-0.abc")
    scene.claim("slot-0.abc")
    path = scene.execution.heartbeat("slot-0.abc")

    path.write_text("{torn")
    fresh = scene.state()
    os.utime(path, (time.time() - 2 * LEASE_S,) * 2)
    silent = scene.state()

    assert (fresh, silent) == ("running", "pending")


def test_heartbeat_from_the_future_is_believed_no_longer_than_the_lease(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The filesystem's clock was set back by a day after the worker had been killed."""
    moment = time.monotonic()
    scene.beat("one", process=elsewhere(), silent_s=-86400)
    scene.claim("one")

    before = scene.state()
    monkeypatch.setattr(time, "monotonic", lambda: moment + LEASE_S - 10)
    meanwhile = scene.state()
    scene.beat("one", process=elsewhere(), silent_s=-86401)
    monkeypatch.setattr(time, "monotonic", lambda: moment + LEASE_S + 10)
    heard = scene.state()
    monkeypatch.setattr(time, "monotonic", lambda: moment + 2 * LEASE_S + 20)
    silent = scene.state()

    assert (before, meanwhile, heard, silent) == ("running", "running", "running", "pending")


def test_process_of_another_time_namespace_is_not_judged_by_its_start(scene: Scene) -> None:
    moved = dataclasses.replace(this_process(), time_space="time:[1]", started_ticks=1)
    scene.beat("one", process=moved)
    scene.claim("one")

    assert scene.state() == "running"


IN_A_NAMESPACE = """
import os, sys, time
from pathlib import Path
from hpc_bench.execution.folder import ExecutionDir
from hpc_bench.execution.heartbeat import Heartbeat, this_process, write_heartbeat
from hpc_bench.execution.slot import Slot
execution = ExecutionDir(Path(sys.argv[1]))
while True:
    write_heartbeat(execution, Heartbeat("one", Slot("s", 0), "local", this_process()))
    time.sleep(0.2)
"""


@pytest.mark.parametrize("how", [["--pid", "--fork"], ["--pid", "--fork", "--mount-proc"], ["--time", "--boottime=99"]])
def test_living_worker_of_another_namespace_is_not_called_dead(scene: Scene, how: list[str]) -> None:
    if subprocess.run(["unshare", *how, "true"], capture_output=True, check=False).returncode:
        pytest.skip("namespaces cannot be made here")
    scene.claim("one")

    command = ["unshare", *how, sys.executable, "-c", IN_A_NAMESPACE, str(scene.execution.path)]
    with subprocess.Popen(command, start_new_session=True) as worker:
        try:
            wait_until(lambda: scene.execution.heartbeat("one").exists())
            assert {scene.state() for _ in range(20)} == {"running"}
        finally:
            os.killpg(worker.pid, signal.SIGKILL)


def test_claim_that_was_made_although_its_link_was_reported_as_failed_is_taken_up(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = os.link

    def fails_late(*arguments: str) -> None:
        link(*arguments)
        Path(arguments[0]).unlink()  # so that its number of links tells nothing
        raise OSError(errno.EIO, "Input/output error")

    scene.board.refresh()
    monkeypatch.setattr(os, "link", fails_late)
    with pytest.raises(OSError, match=r"output error|No such file"):
        claim_attempt(scene.board, scene.stub, "one")
    monkeypatch.undo()

    assert claim_attempt(scene.board, scene.stub, "two") is None
    again = claim_attempt(scene.board, scene.stub, "one")
    assert again is not None
    write_outcome(scene.execution, again, Outcome("failed", "ValueError", "no"))
    assert claim_attempt(scene.board, scene.stub, "one") is None
