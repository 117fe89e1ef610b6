"""Corrupt files of an execution end in one line with a remedy, and no other stub pays."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hpc_bench.execution.folder import new_execution_marker
from hpc_bench.execution.heartbeat import Heartbeat, this_process, write_heartbeat
from hpc_bench.execution.results.samples_file import SamplesFile
from hpc_bench.execution.slot import Slot
from hpc_bench.execution.submission import JobArray, Submission, write_submission
from hpc_bench.values import Answer
from tests.support.builders import claim, fail, prepare, publish, rewrite_json, run_cli, stubs_of, tree, write_sweep
from tests.support.fuzzing import limited
from tests.support.places import TINY
from tests.support.refusals import assert_refused, reading_commands

pytestmark = pytest.mark.usefixtures("no_workers")


ARRAY = {
    "job": "77", "first": 0, "tasks": 4, "gpus": 1, "throttle": 2, "partition": "debug", "time_min": 60,
    "script": ".state/jobs/script.sh",
}  # fmt: skip
"""An array of a submission."""


def header_with(**changes: Any) -> Callable[[bytes], bytes]:
    def change(content: bytes) -> bytes:
        first, _, rest = content.partition(b"\n")
        return json.dumps({**json.loads(first), **changes}).encode() + b"\n" + rest

    return change


def header_without(key: str) -> Callable[[bytes], bytes]:
    def change(content: bytes) -> bytes:
        first, _, rest = content.partition(b"\n")
        data = json.loads(first)
        del data[key]
        return json.dumps(data).encode() + b"\n" + rest

    return change


CORRUPT_HEADERS: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "torn": lambda content: content[:100],
    "zeros": lambda content: b"\0" * len(content),
    "no UTF-8": lambda content: b"\xff\xfe" + content,
    "a list": lambda _: b"[]\n",
    "a number": lambda _: b"1\n",
    "deeply nested": lambda _: b"[" * 100_000,
    "without models": header_without("models"),
    "without limits": header_without("limits"),
    "without a format version": header_without("format_version"),
    "with models of a wrong type": header_with(models=5),
    "with limits of a wrong type": header_with(limits=[]),
    "with empty limits": header_with(limits={}),
    "with attempts of a wrong type": header_with(forgiven=3),
    "with an odd format version": header_with(format_version="one"),
    "with a key too much": header_with(extra=1),
    "with NaN": header_with(measured={"org/alpha/needle/256": float("nan")}),
    "with an infinity": lambda content: content.replace(b'"lease_s": 180.0', b'"lease_s": 1e999'),
    "with a number as text": lambda content: content.replace(b'"lease_s": 180.0', b'"lease_s": "180"'),
    "with a model of another shape": header_with(models={"org/alpha": {"name": "org/alpha"}}),
    "with a benchmark of another shape": header_with(benchmarks={"needle": []}),
}
CORRUPT_LINES: dict[str, Callable[[bytes], bytes]] = {
    "a torn last line": lambda content: content[:-20],
    "a line of text": lambda content: content + b"stub\n",
    "a line too short": lambda content: content + b"[0, 0]\n",
    "an unknown model": lambda content: content + b'[9, 0, 0, null, "f"]\n',
    "a name for a number": lambda content: content + b'["a", 0, 0, null, "f"]\n',
    "a number for a subset": lambda content: content + b'[0, 0, 0, {"a": 1}, "f"]\n',
    "an empty line": lambda content: content + b"\n",
}


CORRUPT = {**CORRUPT_HEADERS, **CORRUPT_LINES}


@pytest.mark.parametrize("corrupt", CORRUPT.values(), ids=CORRUPT)
def test_corrupt_manifest_is_one_line_with_a_remedy(tmp_path: Path, corrupt: Callable[[bytes], bytes]) -> None:
    execution = prepare(tmp_path / "results")
    path = write_sweep(tmp_path)
    execution.manifest.write_bytes(corrupt(execution.manifest.read_bytes()))
    before = tree(tmp_path)

    commands = reading_commands(tmp_path / "results")
    if corrupt in CORRUPT_HEADERS.values():  # planning reads no more than the header
        commands += [("plan", "--gpus", "none", path), ("submit", "--gpus", "none", path)]
    for command in commands:
        assert_refused(run_cli(*command), f"{execution.manifest}: ", "corrupt", "manifest.<k>.jsonl", "--new")
        assert tree(tmp_path) == before
    assert run_cli("plan", "--gpus", "none", "--new", path).exit_code == 0


def test_manifest_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    execution = prepare(tmp_path / "results")
    path = write_sweep(tmp_path)
    execution.manifest.write_bytes(header_with(format_version=99, a_new_key=1)(execution.manifest.read_bytes()))
    before = tree(tmp_path)

    for command in [*reading_commands(tmp_path / "results"), ("plan", path), ("submit", path)]:
        assert_refused(run_cli(*command), f"{execution.manifest}: ", "format version 99 is newer", "update hpc-bench")
        assert tree(tmp_path) == before


def test_manifest_that_is_a_folder_is_one_line(tmp_path: Path) -> None:
    execution = prepare(tmp_path)
    execution.manifest.unlink()
    execution.manifest.mkdir()

    for command in reading_commands(tmp_path):
        assert_refused(run_cli(*command), f"{execution.manifest}: ")


def test_manifest_that_is_gone_is_named(tmp_path: Path) -> None:
    execution = prepare(tmp_path)
    execution.manifest.unlink()

    for command in reading_commands(tmp_path):
        assert_refused(run_cli(*command), f"{execution.manifest}: is missing", "manifest.<k>.jsonl")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"\0\0", b"[" * 100_000])
def test_corrupt_metrics_are_stale_to_submit_and_invalid_to_collect(tmp_path: Path, content: bytes) -> None:
    execution = prepare(tmp_path / "results")
    result = publish(execution, stubs_of(execution)[0])
    (result / "metrics.json").write_bytes(content)
    path = write_sweep(tmp_path)
    before = tree(tmp_path)

    planned = json.loads(run_cli("plan", "--gpus", "none", "--json", path).stdout)
    submitted = run_cli("submit", "--gpus", "none", path)

    assert tree(tmp_path) == before
    assert (planned["stale"], planned["complete"], planned["to_run"]) == (1, 0, 11)
    assert_refused(submitted, str(result), "corrupt", "--discard-stale")
    collected = run_cli("collect", tmp_path / "results")
    assert collected.exit_code == 1
    assert "1 invalid" in collected.stdout
    assert str(result) in collected.stdout


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"5", b"\xff\xfe\xfd", b"[" * 100_000])
def test_corrupt_claim_is_one_line_and_spares_the_summary(tmp_path: Path, content: bytes) -> None:
    execution = prepare(tmp_path / "results")
    stub, other = stubs_of(execution)[:2]
    publish(execution, other)
    made = claim(execution, stub)
    torn = execution.claim(stub.key, made.attempt)
    torn.write_bytes(content)
    path = write_sweep(tmp_path)
    before = tree(tmp_path)

    for command in [
        ("plan", "--gpus", "none", path),
        ("submit", "--gpus", "none", path),
        ("logs", tmp_path / "results", stub.title),
    ]:
        assert_refused(run_cli(*command), f"{torn}: ", "corrupt", "delete it")
        assert tree(tmp_path) == before
    status = run_cli("status", tmp_path / "results")
    assert "12 stubs: 1 complete, 1 failed, 0 running, 10 pending" in status.stdout
    assert f"failed: {stub.title}: CorruptClaim: {torn}: is corrupt (" in status.stdout
    assert run_cli("cancel", tmp_path / "results").stdout == "no worker is running\n"
    assert tree(tmp_path) == before
    collected = run_cli("collect", tmp_path / "results")
    assert collected.exit_code == 1
    assert "1 complete" in collected.stdout
    assert "1 invalid" in collected.stdout
    assert str(torn) in collected.stdout


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"state": "failed"}', b'{"state": "failed", "error": 1, "message": 2}', b"[" * 9999]
)
def test_corrupt_outcome_is_a_failure_that_says_so(tmp_path: Path, content: bytes) -> None:
    execution = prepare(tmp_path)
    stub = stubs_of(execution)[0]
    fail(execution, stub, attempts=2)
    execution.outcome(stub.key, 2).write_bytes(content)

    result = run_cli("collect", tmp_path)

    assert result.exit_code == 1
    assert f"failed: {stub.title}: CorruptOutcome: " in result.stdout


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{}", b"[" * 9999, b'{"worker": "w", "process": {"pid": "x"}}', b'{"worker": 1}']
)
def test_corrupt_heartbeat_counts_as_none(tmp_path: Path, content: bytes) -> None:
    execution = prepare(tmp_path)
    (execution.workers / "w.json").write_bytes(content)

    status = run_cli("status", tmp_path)
    assert status.exit_code == 0
    assert f"{execution.workers / 'w.json'}: is corrupt; " in status.stdout
    assert run_cli("collect", tmp_path).exit_code == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "../../../outside"}, {"name": 5}, {"slots": "w-0"}, {"slots": [1]}, {"slots": ["w-²"]},
        {"backend": None}, {"jobs": []}, {"arrays": {}}, {"arrays": [ARRAY | {"job": "../../log"}]},
        {"arrays": [ARRAY | {"tasks": 10**9}]}, {"arrays": [ARRAY | {"first": -1}]},
        {"arrays": [ARRAY | {"tasks": "4"}]},
        {"arrays": [ARRAY | {"script": "/etc/passwd"}]}, {"host": float("nan")},
    ],
    ids=str,
)  # fmt: skip
def test_corrupt_submission_is_named_by_status_and_spares_the_others(tmp_path: Path, changes: dict[str, Any]) -> None:
    execution = prepare(tmp_path)
    whole = {"name": "slurm-1", "backend": "slurm", "host": "login", "slots": [], "jobs": {}, "arrays": [ARRAY]}
    damaged, other = execution.submission("slurm-1"), execution.submission("slurm-2")
    damaged.write_text(json.dumps(whole | changes))
    other.write_text(json.dumps(whole | {"name": "slurm-2", "arrays": [ARRAY | {"job": "78"}]}))

    status = run_cli("status", tmp_path)

    assert status.exit_code == 0
    assert f"{damaged}: is corrupt (" in status.stdout
    assert f"{other}: is corrupt" not in status.stdout
    assert run_cli("collect", tmp_path).exit_code == 1
    assert_refused(run_cli("logs", tmp_path, "77"), "unknown job '77'", "78", f"{damaged}: is corrupt")
    assert_refused(run_cli("logs", tmp_path, "78"), "job 78 has not started yet")


@pytest.mark.parametrize("pid", [0, -1, 10**30, "1"])
def test_heartbeat_of_no_process_ends_nothing(tmp_path: Path, pid: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    execution = prepare(tmp_path)
    write_submission(execution, Submission("local-1", "local", "here", (Slot("local-1", 0),)))
    write_heartbeat(execution, Heartbeat("local-1-0.a", Slot("local-1", 0), "local", this_process()))
    path = execution.heartbeat("local-1-0.a")
    process = json.loads(path.read_text())["process"]
    rewrite_json(path, process={**process, "pid": pid})
    signals: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda *sent: signals.append(sent))

    run_cli("cancel", tmp_path, "--wait", "0")

    assert [sent for sent in signals if sent[1]] == []


@pytest.mark.parametrize(
    "change", [{"text": 5}, {"seconds": "1"}, {"tokens_in": 1.5}, {"density": float("nan")}, {"layer_density": "x"}]
)
def test_answer_of_a_wrong_type_is_asked_again(tmp_path: Path, change: dict[str, Any]) -> None:
    execution = prepare(tmp_path)
    made = claim(execution, stubs_of(execution)[0])
    samples = SamplesFile(execution, made)
    samples.add("good", Answer("half \ud83d", 9, 1, 0, 0.5, 0.25, 0.5, layer_density=(0.5,)))
    samples.add("bad", Answer("yes", 9, 1, 0, 0.5, 0.25, 0.5))
    samples.close()
    path = execution.attempt(made.stub.key, 1) / "samples.jsonl"
    *lines, last = path.read_text().splitlines()
    path.write_text("\n".join([*lines, json.dumps({**json.loads(last), **change}), ""]))

    again = SamplesFile(execution, made)
    again.close()

    assert again.answers == {"good": Answer("half \ud83d", 9, 1, 0, 0.5, 0.25, 0.5, layer_density=(0.5,))}


@pytest.mark.parametrize(
    "change",
    [{"tasks": [{"job": "a_b"}]}, {"tasks": {}}, {"jobs": [77]}, {"absent": {"77": "x"}}, {"answered": 1}, {"over": 5}],
    ids=str,
)
def test_corrupt_queue_counts_as_none(tmp_path: Path, change: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # without squeue
    execution = prepare(tmp_path)
    submission = Submission("slurm-1", "slurm", "login", (), arrays=(JobArray(**ARRAY),))  # type: ignore[arg-type]
    write_submission(execution, submission)
    waiting = {"job": "77", "indices": [0], "state": "PENDING", "reason": "", "start": "", "nodes": ""}
    queue = {"tasks": [waiting], "jobs": ["77"], "answered": True, "absent": {}, "over": []}
    execution.queue.write_text(json.dumps(queue))
    assert "waiting: 1 worker" in run_cli("status", tmp_path).stdout

    execution.queue.write_text(json.dumps(queue | change))

    assert "waiting" not in run_cli("status", tmp_path).stdout


@pytest.mark.parametrize("content", [b"", b"..", b"../outside", b"/etc", b"\xff", b"execution_1", None])
def test_corrupt_marker_of_a_new_execution_counts_as_none(tmp_path: Path, content: bytes | None) -> None:
    base = tmp_path / "results"
    base.mkdir()
    marker = new_execution_marker(base, "tiny", "")
    os.mkfifo(marker) if content is None else marker.write_bytes(content)

    with limited():
        execution = prepare(base)

    assert execution.path.parent == base
    assert execution.manifest.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["results"]


def state_files(tmp_path: Path) -> dict[str, Path]:
    """One of each kind, in an execution with results, failures and a worker."""
    execution = prepare(tmp_path)
    stubs = stubs_of(execution)
    result = publish(execution, stubs[0])
    fail(execution, stubs[1], attempts=2)
    made = claim(execution, stubs[2])
    heartbeat = Heartbeat("w", Slot("local-1", 0), "local", this_process())
    write_heartbeat(execution, heartbeat)
    write_submission(execution, Submission("local-1", "local", "here", ()))
    execution.queue.write_text("{}")
    return {
        "result": result / "stub.json",
        "metrics": result / "metrics.json",
        "rows": result / "raw_results.csv",
        "claim": execution.claim(stubs[2].key, made.attempt),
        "outcome": execution.outcome(stubs[1].key, 2),
        "heartbeat": execution.heartbeat("w"),
        "submission": execution.submission("local-1"),
        "queue": execution.queue,
        "manifest": execution.manifest,
    }


def as_loop(path: Path) -> None:
    path.symlink_to(path.name)


@pytest.mark.parametrize("become", [os.mkfifo, Path.mkdir, as_loop], ids=["a FIFO", "a folder", "a loop of links"])
@pytest.mark.parametrize(
    "kind",
    ["result", "metrics", "rows", "claim", "outcome", "heartbeat", "submission", "queue", "manifest"],
)
def test_what_is_no_file_in_the_place_of_one_keeps_no_command_waiting(
    tmp_path: Path, kind: str, become: Callable[[Path], None]
) -> None:
    files = state_files(tmp_path)
    files[kind].unlink()
    become(files[kind])

    with limited():
        done = [run_cli(command, tmp_path) for command in ("status", "collect", "rescore")]

    if kind == "manifest":
        assert [each.exit_code for each in done] == [2, 2, 2]
    else:
        assert [each.exit_code for each in done[:2]] == [0, 1]


@pytest.mark.parametrize("number", ["²", "٣", "0", "01", "9999999999", "7"])
def test_claim_whose_name_no_worker_gives_is_none(tmp_path: Path, number: str) -> None:
    execution = prepare(tmp_path)
    stub = stubs_of(execution)[0]
    fail(execution, stub, attempts=2)
    copy = execution.claims / f"{stub.key}.{number}"
    copy.write_text(execution.claim(stub.key, 2).read_text())

    with limited():
        status = run_cli("status", tmp_path, "--json")

    assert json.loads(status.stdout)["failed"] == 1


@pytest.mark.parametrize("log", ["/etc/hostname", "../../../outside", "a\0b", "a" * 300, 5])
def test_log_outside_of_the_execution_is_not_shown(tmp_path: Path, log: Any) -> None:
    execution = prepare(tmp_path)
    stub = stubs_of(execution)[0]
    fail(execution, stub, attempts=2)
    rewrite_json(execution.outcome(stub.key, 2), log=log)

    assert_refused(run_cli("logs", tmp_path, stub.title), "is not known", str(execution.outcome(stub.key, 2)))


@pytest.mark.parametrize("name", ["/dev/zero", "../stub.json", "..", "", "a\0b", "a" * 300])
def test_file_of_a_result_outside_of_its_folder_makes_it_invalid(tmp_path: Path, name: str) -> None:
    execution = prepare(tmp_path)
    result = publish(execution, stubs_of(execution)[0])
    rewrite_json(result / "stub.json", sha256={name: "00"})

    with limited():
        assert "1 invalid" in run_cli("collect", tmp_path).stdout


@pytest.mark.parametrize(
    "content", ["[]", "5", "null", '{"text_config": []}', "[" * 9999, '{"num_attention_heads": 1e999}']
)
def test_model_config_of_another_form_does_not_end_planning(tmp_path: Path, content: str) -> None:
    shutil.copytree(TINY, tmp_path / "model")
    for name in ("config.json", "generation_config.json"):
        (tmp_path / "model" / name).write_text(content)
    path = write_sweep(tmp_path, model_names=[str(tmp_path / "model")])

    assert run_cli("plan", "--gpus", "none", path).exit_code == 0


@pytest.mark.parametrize("section", ["models", "attentions", "benchmarks"])
def test_manifest_with_an_empty_name_is_refused(tmp_path: Path, section: str) -> None:
    execution = prepare(tmp_path)
    content = execution.manifest.read_bytes()
    entries = json.loads(content.partition(b"\n")[0])[section]
    renamed = {"" if place == 0 else name: entry for place, (name, entry) in enumerate(entries.items())}
    execution.manifest.write_bytes(header_with(**{section: renamed})(content))

    assert_refused(run_cli("status", tmp_path), f"{execution.manifest}: ", "corrupt")
