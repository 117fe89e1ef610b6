"""ZeroSCROLLS has no score here, but a table to send in."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from hpc_bench.benchmarks.suites.zero_scrolls import ZeroScrolls
from hpc_bench.execution.folder import ExecutionDir
from hpc_bench.execution.manifest import read_manifest
from hpc_bench.execution.results.publish import write_result
from hpc_bench.values import Answer, HubRepo, Sample, Scores
from tests.support.benchmark_rows import write_jsonl
from tests.support.builders import claim, prepare, run_cli, stub_facts, stubs_of, write_sweep
from tests.support.running import hpc_bench, results, submit, write_scripted_sweep

NEW_TOKENS = {
    "gov_report": 1024,
    "summ_screen_fd": 512,
    "qmsum": 512,
    "qasper": 128,
    "narrative_qa": 64,
    "quality": 10,
    "musique": 32,
    "squality": 512,
    "space_digest": 36,
    "book_sum_sort": 256,
}


def row(task: str = "qasper", name: str = "id-1", **changes: Any) -> dict[str, Any]:
    fields = {
        "id": name,
        "pid": f"{name}_0",
        "input": "all of it",
        "output": None,
        "context": "A long text.",
        "question": "Question:\nWho?\n\n",
        "answer_prefix": "Answer:",
        "answer": "",
        "task": task,
        "max_new_tokens": 999,
    }
    return {**fields, **changes}


def read_as_the_authors(text: str) -> list[list[str]]:
    """submission/verify_submission.py, `safe_read_csv`."""
    table = pd.read_csv(io.StringIO(text, newline=""), dtype=object, keep_default_na=False, na_values=["!@#$%^&*()"])
    return [list(table.columns), *table.values.tolist()]


@pytest.mark.parametrize(("subset", "new_tokens"), NEW_TOKENS.items())
def test_tasks_and_limits_are_the_authors(tmp_path: Path, subset: str, new_tokens: int) -> None:
    data = write_jsonl(tmp_path / "all.jsonl", [row(task, f"{task}-1") for task in NEW_TOKENS])

    (sample,) = ZeroScrolls(data=str(data)).load(subset, len)

    assert sample.max_new_tokens == new_tokens == ZeroScrolls().size(subset).new_tokens
    assert sample.extra == {"id": f"{subset}-1"}
    assert ZeroScrolls.subsets == tuple(NEW_TOKENS)


def test_all_tasks_lie_in_one_table_of_the_hub() -> None:
    repos = {ZeroScrolls(revision="abc").hub_data(subset) for subset in NEW_TOKENS}

    assert repos == {HubRepo("dataset", "simonjegou/zero_scrolls", "abc", "default")}


def test_no_score_is_made_up() -> None:
    sample = Sample("0", "c", "q", ("",), 8, task="qasper", extra={"id": "id-1"})

    scores = ZeroScrolls().score([sample], ["an answer"])

    assert (scores.score, scores.metrics, scores.note) == (None, {}, "not scored: private answers")


@pytest.mark.parametrize(
    "text", ["", "plain", 'he said "so", and\nleft', "NA", "a\r\nb", "a\rb", "\r", " 中文 ", "=1+1"]
)
def test_submission_reads_back_as_the_authors_read_it(text: str) -> None:
    sample = Sample("0", "c", "q", ("",), 8, task="qasper", extra={"id": "id-1"})

    table = ZeroScrolls().score([sample], [text]).files["submission.csv"]

    assert read_as_the_authors(table) == [["Task", "ID", "Prediction"], ["qasper", "id-1", text]]


@pytest.mark.parametrize(
    ("question", "asked"),
    [
        ("\n\nQuestion:\nWho?", "\n\nQuestion:\nWho?\n\n"),
        ("Question:\nWho?\n\n", "Question:\nWho?\n\n"),
        ("", "\n\n"),  # a summary is asked for without a question
    ],
)
def test_answer_prefix_stands_on_a_line_of_its_own(question: str, asked: str) -> None:
    sample = ZeroScrolls().to_sample(0, row(question=question), "qasper")

    assert sample.question + sample.answer_prefix == f"{asked}Answer:\n"
    assert sample.question == asked


def test_prompt_without_an_answer_prefix_stays_as_it_is() -> None:
    sample = ZeroScrolls().to_sample(0, row(question="Who?", answer_prefix=""), "qasper")

    assert (sample.question, sample.answer_prefix) == ("Who?", "")


def test_the_end_of_a_document_is_cut() -> None:
    assert ZeroScrolls.truncation == "right"


def test_id_that_the_data_repeats_stands_once() -> None:
    samples = [Sample(str(i), "c", "q", ("",), 8, task="qasper", extra={"id": "same"}) for i in range(2)]

    assert ZeroScrolls().score(samples, ["a", "b"]).files["submission.csv"] == (
        '"Task","ID","Prediction"\n"qasper","same","a"\n'
    )


def test_whole_path_writes_a_submission_that_collect_guards(tmp_path: Path) -> None:
    data = write_jsonl(tmp_path / "all.jsonl", [row(name="a"), row("quality", "b"), row(name="c", context="Other.")])
    sweep = write_scripted_sweep(
        tmp_path,
        script={"answer": "wrong"},
        sparse_attention_configs={"dense": None},
        benchmark_configs={"zero_scrolls": {"subsets": ["qasper"], "data": str(data)}},
        max_concurrent_runs=1,
    )

    done = submit(sweep)

    assert done.returncode == 0, done.stdout + done.stderr
    (result,) = results(sweep)
    metrics = json.loads((result / "metrics.json").read_text())
    assert (metrics["score"], metrics["note"], metrics["samples"]) == (None, "not scored: private answers", 2)
    text = (result / "submission.csv").read_text()
    assert read_as_the_authors(text)[1:] == [["qasper", "a", "no idea"], ["qasper", "c", "no idea"]]

    (result / "submission.csv").write_text("changed")
    said = hpc_bench("collect", str(tmp_path / "results")).stdout
    assert "submission.csv is not as it was published" in " ".join(said.split())


def attempt(tmp_path: Path, files: dict[str, str]) -> Path:
    execution: ExecutionDir = prepare(tmp_path)
    made = claim(execution, stubs_of(execution)[0])
    folder = execution.attempt(made.stub.key, made.attempt)
    folder.mkdir(parents=True)
    answers = {"0": Answer("a", 1, 1, 0, 0.1, 0.1, 1.0)}
    facts = stub_facts(read_manifest(execution), made, 1)
    write_result(folder, [Sample("0", "c", "q", ("a",), 1)], answers, Scores(None, {}, ({},), files=files), facts)
    return folder


@pytest.mark.parametrize("name", ["stub.json", "raw_results.csv", "samples.jsonl", "../x", "a/b", "", "..", "/tmp/x"])
def test_benchmark_cannot_write_over_another_file(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="cannot write a file of the name"):
        attempt(tmp_path, {name: "x"})


def test_own_file_keeps_line_ends_and_odd_characters(tmp_path: Path) -> None:
    folder = attempt(tmp_path, {"mine.txt": "a\r\nb\n中\ud800"})

    assert (folder / "mine.txt").read_bytes() == "a\r\nb\n中\\ud800".encode()
    assert "mine.txt" in json.loads((folder / "stub.json").read_text())["sha256"]


def test_unknown_task_is_one_line(tmp_path: Path) -> None:
    result = run_cli("plan", write_sweep(tmp_path, benchmark_configs={"zero_scrolls": ["qaspr"]}))

    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "did you mean 'qasper'?" in result.stderr
