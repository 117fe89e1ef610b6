"""Answers survive crashes, a result appears whole, and the first one stands."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pandas as pd
import pytest

from hpc_bench.execution.attempts.claims import Claim
from hpc_bench.execution.folder import ExecutionDir
from hpc_bench.execution.results.facts import Facts
from hpc_bench.execution.results.publish import publish_result, write_result
from hpc_bench.execution.results.samples_file import SamplesFile
from hpc_bench.execution.stub import make_stub
from hpc_bench.values import Answer, Metric, Sample, Scores

STUB = make_stub("org/model", "dense", "needle", "256", "f" * 64)
ODD = 'a "quoted", text\nwith a second line\r\nand \u4e2d\u6587 \U0001f600 =1+1 \t end'


def answer(text: str) -> Answer:
    return Answer(text, 10, 2, 0, 0.5, 0.1, 1.0)


@pytest.fixture
def execution(tmp_path: Path) -> ExecutionDir:
    return ExecutionDir.create(tmp_path)


def add(execution: ExecutionDir, claim: Claim, sample_id: str, text: str) -> None:
    file = SamplesFile(execution, claim)
    file.add(sample_id, answer(text))
    file.close()


def known_to(execution: ExecutionDir, claim: Claim) -> dict[str, str]:
    file = SamplesFile(execution, claim)
    file.close()
    return {name: item.text for name, item in file.answers.items()}


def samples_path(execution: ExecutionDir, attempt: int) -> Path:
    return execution.attempt(STUB.key, attempt) / "samples.jsonl"


def facts_of_attempt(attempt: int) -> Facts:
    return Facts(STUB.key, attempt, STUB.fingerprint, samples=2, seconds=1.0, provenance={}, sha256={})


def write_attempt(execution: ExecutionDir, attempt: int, texts: dict[str, str]) -> Claim:
    claim = Claim(STUB, attempt)
    file = SamplesFile(execution, claim)
    for sample_id, text in texts.items():
        file.add(sample_id, answer(text))
    file.close()
    samples = [Sample(name, "c", "q", ("r",), 4) for name in file.answers]
    scores = Scores(50.0, {"m": Metric(50.0)}, tuple({"m": 50.0} for _ in samples))
    write_result(execution.attempt(STUB.key, attempt), samples, file.answers, scores, facts_of_attempt(attempt))
    return claim


def test_new_attempt_starts_with_the_samples_of_the_earlier_ones(execution: ExecutionDir) -> None:
    add(execution, Claim(STUB, 1), "a", "one")
    add(execution, Claim(STUB, 2), "b", "two")

    assert known_to(execution, Claim(STUB, 3)) == {"a": "one", "b": "two"}


@pytest.mark.parametrize(
    "torn", [b'{"sample_id": "b", "text": "tw', b"\x00\xff\n", b'{"sample_id": "b"}\n', b"[1]\n", b"5\n"]
)
def test_torn_or_foreign_line_is_dropped_and_the_rest_kept(execution: ExecutionDir, torn: bytes) -> None:
    add(execution, Claim(STUB, 1), "a", "one")
    with samples_path(execution, 1).open("ab") as file:
        file.write(torn)

    assert known_to(execution, Claim(STUB, 2)) == {"a": "one"}


def test_samples_of_another_configuration_are_not_taken_over(execution: ExecutionDir) -> None:
    other = dataclasses.replace(STUB, fingerprint="0" * 64)
    add(execution, Claim(other, 1), "a", "one")

    assert known_to(execution, Claim(STUB, 2)) == {}


@pytest.mark.parametrize(("answers", "scores"), [(1, 2), (2, 1)])
def test_result_that_lacks_an_answer_or_a_score_is_not_written(
    execution: ExecutionDir, answers: int, scores: int
) -> None:
    folder = samples_path(execution, 1).parent
    folder.mkdir(parents=True)
    samples = [Sample(name, "c", "q", ("r",), 4) for name in ("a", "b")]
    given = {sample.sample_id: answer("x") for sample in samples[:answers]}
    made = Scores(50.0, {"m": Metric(50.0)}, ({"m": 50.0},) * scores)

    with pytest.raises((KeyError, ValueError)):
        write_result(folder, samples, given, made, facts_of_attempt(1))

    assert not (folder / "stub.json").exists()


def test_first_published_result_stands(execution: ExecutionDir) -> None:
    first, second = write_attempt(execution, 1, {"a": "first"}), write_attempt(execution, 2, {"a": "second"})

    won = [publish_result(execution, second), publish_result(execution, first)]

    assert won == [True, False]
    assert json.loads((execution.result(STUB.result_path) / "stub.json").read_text())["attempt"] == 2


def test_rename_that_reports_an_error_but_happened_counts_as_won(
    execution: ExecutionDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = write_attempt(execution, 1, {"a": "first"})
    real = Path.rename

    def rename(source: Path, target: Path) -> Path:
        real(source, target)
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Path, "rename", rename)

    assert publish_result(execution, claim) is True


def test_raw_results_read_back_equal(execution: ExecutionDir) -> None:
    publish_result(execution, write_attempt(execution, 1, {"a": ODD, "b": "", "c": "NA"}))

    frame = pd.read_csv(execution.result(STUB.result_path) / "raw_results.csv", keep_default_na=False)

    assert list(frame["prediction"]) == [ODD, "", "NA"]
    assert list(frame["sample_id"]) == ["a", "b", "c"]


def test_published_result_holds_three_files_and_no_attempt_is_left(execution: ExecutionDir) -> None:
    write_attempt(execution, 1, {"a": "first"})
    publish_result(execution, write_attempt(execution, 2, {"a": "first"}))

    names = {path.name for path in execution.result(STUB.result_path).iterdir()}

    assert names == {"raw_results.csv", "metrics.json", "stub.json"}
    assert list(execution.attempts.iterdir()) == []
