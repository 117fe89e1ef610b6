"""Corrupt files of an execution end in one line with a remedy, and no other stub pays."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.builders import claim, fail, prepare, publish, run_cli, stubs_of, tree, write_sweep
from tests.support.refusals import assert_refused, reading_commands

pytestmark = pytest.mark.usefixtures("no_workers")


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
        ("status", tmp_path / "results"),
        ("logs", tmp_path / "results", stub.title),
        ("cancel", tmp_path / "results"),
    ]:
        assert_refused(run_cli(*command), f"{torn}: ", "corrupt", "delete it")
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

    assert run_cli("status", tmp_path).exit_code == 0
    assert run_cli("collect", tmp_path).exit_code == 1
