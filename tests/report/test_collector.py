"""From a results folder to a summary; one bad cell never spoils the others."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hpc_bench.execution.folder import ExecutionDir
from hpc_bench.report.collect import collect_execution
from hpc_bench.report.files import write_summary
from tests.support.builders import (
    claim,
    fail,
    prepare,
    publish,
    publish_all,
    rewrite_json,
    run_cli,
    set_metrics,
    stubs_of,
    tree,
)

COLUMNS = [
    "model",
    "attention",
    "benchmark",
    "subset",
    "state",
    "score",
    "baseline",
    "delta",
    "delta_low",
    "delta_high",
    "delta_significant",
    "delta_note",
    "metric_match",
    "samples",
    "seconds",
    "prefill_s",
    "answer_s",
    "tokens_out",
    "tokens_per_s",
    "cut_tokens",
    "peak_memory_gb",
    "density",
    "prefill_density",
    "attention_error",
    "scoring_version",
    "attempt",
    "host",
    "hpc_bench",
    "torch",
    "transformers",
    "dtype",
    "device",
    "reason",
    "log",
]


def rows_of(execution: ExecutionDir) -> list[dict[str, str]]:
    with execution.summary_csv.open(newline="") as file:
        return list(csv.DictReader(file))


def summary_of(execution: ExecutionDir) -> dict[str, Any]:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    data: dict[str, Any] = json.loads(execution.summary_json.read_text(), parse_constant=refuse)
    return data


@pytest.fixture
def mixed(tmp_path: Path) -> ExecutionDir:
    """Two complete stubs, one failed, one running, one whose first attempt failed, seven untouched."""
    execution = prepare(tmp_path)
    stubs = stubs_of(execution)
    publish(execution, stubs[0], score=80.0)
    publish(execution, stubs[2], score=40.0)
    fail(execution, stubs[1], attempts=2, host="node9")
    fail(execution, stubs[3], attempts=1)
    claim(execution, stubs[4])
    return execution


def test_all_complete_is_exit_code_0(tmp_path: Path) -> None:
    execution = prepare(tmp_path)
    publish_all(execution, score=50.0)

    result = run_cli("collect", tmp_path)

    assert result.exit_code == 0
    assert result.stderr == ""
    assert f"{execution.path}: 12 stubs: 12 complete" in result.stdout.replace("\n", "")
    assert "50.00" in result.stdout
    assert "*" not in result.stdout


def test_missing_results_are_exit_code_1(mixed: ExecutionDir) -> None:
    assert run_cli("collect", mixed.path).exit_code == 1


def test_summary_csv_has_one_row_a_stub(mixed: ExecutionDir) -> None:
    write_summary(collect_execution(mixed))

    rows = rows_of(mixed)
    assert list(rows[0]) == COLUMNS
    assert [f"{row['model']}/{row['attention']}/{row['benchmark']}" for row in rows] == [
        f"{stub.model}/{stub.attention}/{stub.benchmark}" for stub in stubs_of(mixed)
    ]
    assert [row["subset"] for row in rows[:3]] == ["256", "512", ""]
    assert rows[0] == {
        "model": "org/alpha",
        "attention": "dense",
        "benchmark": "needle",
        "subset": "256",
        "state": "complete",
        "score": "80.0",
        "baseline": "dense",
        "delta": "",
        "delta_low": "",
        "delta_high": "",
        "delta_significant": "",
        "delta_note": "",
        "metric_match": "80.0",
        "samples": "3",
        "seconds": "2.0",
        "prefill_s": "0.5",
        "answer_s": "1.5",
        "tokens_out": "15",
        "cut_tokens": "0",
        "tokens_per_s": "10.0",
        "peak_memory_gb": "1.25",
        "density": "0.5",
        "prefill_density": "1.0",
        "attention_error": "0.25",
        "scoring_version": "1",
        "attempt": "1",
        "host": "node7",
        "hpc_bench": "",
        "torch": "",
        "transformers": "",
        "dtype": "",
        "device": "Test GPU",
        "reason": "",
        "log": "",
    }
    assert rows[1]["state"] == "failed"
    assert rows[1]["reason"] == "OutOfMemoryError: no memory left"
    assert rows[1]["log"] == ".state/jobs/w.engine1.log"
    assert (rows[1]["host"], rows[1]["attempt"], rows[1]["score"]) == ("node9", "2", "")


def test_summary_json_has_counts_scores_failures_and_provenance(mixed: ExecutionDir) -> None:
    write_summary(collect_execution(mixed))

    summary = summary_of(mixed)
    assert summary["name"] == "tiny"
    assert summary["execution"] == mixed.path.name
    assert summary["counts"] == {"stubs": 12, "complete": 2, "running": 1, "pending": 8, "failed": 1}
    assert summary["models"] == ["org/alpha", "org/beta"]
    assert summary["benchmarks"] == {"needle": ["256", "512"], "mock_benchmark": [""]}
    assert summary["timings"].keys() == {"answer_s", "prefill_s"}
    assert {"command", "host", "user", "python", "packages"} <= set(summary["provenance"])
    assert len(summary["stubs"]) == 12
    first = summary["stubs"][0]
    assert (first["state"], first["score"], first["metrics"]) == ("complete", 80.0, {"match": 80.0})
    assert first["by"] == {"depth": {"0-20": 80.0}}
    assert (mixed.path / first["result"] / "raw_results.csv").exists()
    assert first["provenance"] == {"host": "node7", "device": "Test GPU"}
    failures = {failure["stub"]: failure for failure in summary["failures"]}
    assert set(failures) == {stubs_of(mixed)[1].title, stubs_of(mixed)[3].title}
    assert failures[stubs_of(mixed)[3].title]["state"] == "pending"
    failure = failures[stubs_of(mixed)[1].title]
    assert (failure["state"], failure["error"], failure["attempt"]) == ("failed", "OutOfMemoryError", 2)
    assert failure["message"] == "no memory left\nat all"
    assert failure["log"] == ".state/jobs/w.engine1.log"


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t=", "\r=", "\uff1d"])
def test_text_that_a_spreadsheet_takes_for_a_formula_is_inert_in_the_summary(tmp_path: Path, start: str) -> None:
    execution = prepare(tmp_path)
    formula = f'{start}HYPERLINK("http://x","y")'
    stubs = stubs_of(execution)
    result = publish(execution, stubs[0])
    rewrite_json(
        result / "stub.json", provenance={"host": formula, "device": formula, "torch": "-1"}, attention_error=-0.5
    )
    fail(execution, stubs[1], attempts=2, error=formula)
    set_metrics(result, metrics={f"{start}m": {"value": -0.25, "scale": 100.0}})
    rewrite_json(result / "stub.json", sha256={})

    collected = run_cli("collect", tmp_path)

    rows, inert = rows_of(execution), f"'{formula}".replace("\r", " ")
    assert collected.exit_code == 1
    assert rows[0]["host"] == rows[0]["device"] == inert
    assert rows[0]["torch"] == "'-1"
    assert rows[0]["attention_error"] == "-0.5"
    assert rows[0][f"metric_{start}m".replace("\r", " ")] == "-0.25"
    assert rows[1]["reason"].startswith(f"{inert}: ")


def test_table_shows_the_state_of_cells_without_a_score(mixed: ExecutionDir) -> None:
    output = run_cli("collect", mixed.path).stdout

    assert "2 complete, 1 running, 8 pending, 1 failed" in output
    for cell in ("80.00", "40.00", "failed", "running", "pending"):
        assert cell in output
    assert f"failed: {stubs_of(mixed)[1].title}: OutOfMemoryError: no memory left" in output
    assert f"(log: {mixed.path}/.state/jobs/w.engine1.log)" in output.replace("\n", "")


def test_mean_over_incomplete_cells_is_marked(mixed: ExecutionDir) -> None:
    output = run_cli("collect", mixed.path).stdout

    assert "needle mean" in output
    assert "80.00* 1/2" in output
    assert "* mean over an incomplete set" in output


def test_density_and_error_over_incomplete_stubs_are_marked(mixed: ExecutionDir) -> None:
    output = run_cli("collect", mixed.path).stdout

    (dense,) = (line for line in output.splitlines() if "org/alpha" in line and " dense " in line and "80.00" in line)
    assert "0.500* 2/3" in dense
    assert "0.250* 2/3" in dense
    assert "n/m says how many of its subsets have a score, of density and error how many of the row's stubs" in output


def test_density_of_all_stubs_is_not_marked(tmp_path: Path) -> None:
    execution = prepare(tmp_path, model_names=["org/alpha"])
    for stub in stubs_of(execution):
        if stub.attention == "dense" or stub.subset == "256":
            publish(execution, stub)

    output = run_cli("collect", tmp_path).stdout

    assert "0.500 " in next(line for line in output.splitlines() if " dense " in line)
    assert "0.500* 1/3" in next(line for line in output.splitlines() if " streaming " in line)


def test_wide_table_is_parted_and_every_name_stays_whole(tmp_path: Path) -> None:
    names = [f"{'a_rather_long_name_of_rows' * 2}_{number}" for number in range(5)]
    (tmp_path / "rows.jsonl").write_text('{"context": "c", "question": "q", "answer": "a"}\n')
    own = {"data": str(tmp_path / "rows.jsonl"), "metric": "qa_f1", "max_new_tokens": 4}
    models = ["meta-llama/Llama-3.1-8B-Instruct", "meta-llama/Llama-3.1-70B-Instruct"]
    execution = prepare(tmp_path, model_names=models, benchmark_configs=dict.fromkeys(names, own))
    publish_all(execution)

    lines = run_cli("collect", tmp_path).stdout.splitlines()

    assert max(map(len, lines)) <= 160
    for whole in (*names, *models):
        assert any(f" {whole} " in line for line in lines), whole


def test_many_subsets_become_one_marked_mean(tmp_path: Path) -> None:
    execution = prepare(tmp_path, model_names=["org/alpha"], benchmark_configs={"needle": None, "longbench": None})
    stubs = stubs_of(execution)
    publish(execution, stubs[0], score=90.0)
    publish(execution, stubs[1], score=70.0)

    output = run_cli("collect", tmp_path).stdout

    assert "80.00* 2/8" in output
    assert f"single subsets: {execution.summary_csv}" in output


def test_result_without_a_score_is_complete(tmp_path: Path) -> None:
    execution = prepare(tmp_path)
    for stub in stubs_of(execution):
        publish(execution, stub, score=None)

    result = run_cli("collect", tmp_path)

    assert result.exit_code == 0
    assert "not scored" in result.stdout


def test_collecting_twice_gives_the_same(mixed: ExecutionDir) -> None:
    write_summary(collect_execution(mixed))
    first = {**summary_of(mixed), "collected": ""}
    table = mixed.summary_csv.read_text()

    write_summary(collect_execution(mixed))

    assert {**summary_of(mixed), "collected": ""} == first
    assert mixed.summary_csv.read_text() == table


def test_collecting_leaves_everything_else_as_it_was(mixed: ExecutionDir) -> None:
    before = tree(mixed.path)

    run_cli("collect", mixed.path)

    after = tree(mixed.path)
    assert set(after) - set(before) == {"execution_summary.json", "summary.csv"}
    assert {key: after[key] for key in before} == before


# Results that cannot be trusted


def torn_csv(result: Path) -> None:
    raw = (result / "raw_results.csv").read_bytes()
    (result / "raw_results.csv").write_bytes(raw[: raw.rindex(b"and left") + 3])


def csv_torn_between_fields(result: Path) -> None:
    raw = (result / "raw_results.csv").read_bytes()
    (result / "raw_results.csv").write_bytes(raw[: raw.rindex(b",")])


def csv_of_noise(result: Path) -> None:
    (result / "raw_results.csv").write_bytes(b"\xff\xfe\0\x80")


def fewer_rows(result: Path) -> None:
    rewrite_json(result / "stub.json", samples=4, sha256={})
    set_metrics(result, samples=4)


def without(name: str) -> Callable[[Path], None]:
    return lambda result: (result / name).unlink()


def with_content(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda result: (result / name).write_bytes(content)


def metrics(**changes: Any) -> Callable[[Path], None]:
    return lambda result: set_metrics(result, **changes)


def facts(**changes: Any) -> Callable[[Path], None]:
    return lambda result: rewrite_json(result / "stub.json", **changes)


def add_size(result: Path, name: str) -> None:
    content = json.loads((result / "stub.json").read_text())
    (result / "stub.json").write_text(json.dumps({**content, "bytes": {name: 1}}))


def emptied(result: Path) -> None:
    for path in result.iterdir():
        path.unlink()


def a_file(result: Path) -> None:
    emptied(result)
    result.rmdir()
    result.write_text("no folder")


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "csv torn inside a field": (torn_csv, "cannot be read"),
    "csv torn between fields": (csv_torn_between_fields, "raw_results.csv"),
    "csv is noise": (csv_of_noise, "cannot be read"),
    "csv is empty": (with_content("raw_results.csv", b""), "0 rows, not 3"),
    "no csv": (without("raw_results.csv"), "raw_results.csv"),
    "fewer rows than samples": (fewer_rows, "3 rows, not 4"),
    "counts differ": (metrics(samples=2), "counts 2 samples, stub.json 3"),
    "another fingerprint": (facts(fingerprint="f" * 64), "stale"),
    "no metrics": (without("metrics.json"), "metrics.json"),
    "metrics torn": (with_content("metrics.json", b'{"score": 5'), "cannot be read"),
    "metrics a list": (with_content("metrics.json", b"[]"), "cannot be read"),
    "metrics nested deeply": (with_content("metrics.json", b"[" * 100_000), "cannot be read"),
    "no score": (with_content("metrics.json", b'{"samples": 3}'), "score"),
    "score is NaN": (metrics(score=float("nan")), "nan"),
    "score is infinite": (metrics(score=float("inf")), "inf"),
    "score is text": (metrics(score="50"), "score: Input should be a valid number"),
    "score is a truth value": (metrics(score=True), "score: Input should be a valid number"),
    "score is huge": (metrics(score=10**400), "score: Input should be a finite number"),
    "score is negative": (metrics(score=-0.1), "outside 0-100"),
    "score is above 100": (metrics(score=100.5), "outside 0-100"),
    "named metrics are a list": (metrics(metrics=[1]), "cannot be read"),
    "named metric is no mapping": (metrics(metrics={"f1": 1}), "cannot be read"),
    "named metric is NaN": (metrics(metrics={"f1": {"value": float("nan")}}), "nan"),
    "named metric is huge": (metrics(metrics={"f1": {"value": 10**400}}), "cannot be read"),
    "parts are a number": (metrics(by=5), "cannot be read"),
    "parts of parts are a number": (metrics(by={"depth": 5}), "cannot be read"),
    "no stub.json": (without("stub.json"), "stub.json"),
    "stub.json is a list": (with_content("stub.json", b"[]"), "cannot be read"),
    "stub.json is a number": (with_content("stub.json", b"7"), "cannot be read"),
    "no seconds": (facts(seconds=None), "cannot be read"),
    "seconds are text": (facts(seconds="2"), "cannot be read"),
    "provenance is text": (facts(provenance="x"), "cannot be read"),
    "digest of a file elsewhere": (facts(sha256={"/dev/zero": "0" * 64}), "is not the name of a file"),
    "size of a file elsewhere": (lambda result: add_size(result, "../../x"), "is not the name of a file"),
    "folder is empty": (emptied, "stub.json"),
    "folder is a file": (a_file, "cannot be read"),
}


@pytest.mark.parametrize(("damage", "words"), BROKEN.values(), ids=BROKEN)
def test_broken_result_is_one_invalid_cell(tmp_path: Path, damage: Callable[[Path], object], words: str) -> None:
    execution = prepare(tmp_path)
    publish_all(execution)
    stub = stubs_of(execution)[1]
    rewrite_json(execution.result(stub.result_path) / "stub.json")  # an earlier result, whose file sizes are unknown
    damage(execution.result(stub.result_path))

    result = run_cli("collect", tmp_path)

    assert result.exit_code == 1
    state, error = ("stale", "StaleResult") if words == "stale" else ("invalid", "InvalidResult")
    assert f"11 complete, 1 {state}" in result.stdout
    assert f"{state}: {stub.title}: {error}: " in result.stdout
    states = [entry["state"] for entry in summary_of(execution)["stubs"]]
    assert states == ["complete", state, *["complete"] * 10]
    (failure,) = summary_of(execution)["failures"]
    assert failure["stub"] == stub.title
    assert words.replace("stale", "another configuration") in failure["message"]
    assert str(execution.result(stub.result_path)) in failure["message"]
    row = rows_of(execution)[1]
    assert (row["state"], row["score"]) == (state, "")
    assert "50.00* 1/2" in result.stdout


def test_answers_full_of_quotes_and_line_breaks_are_one_row_each(tmp_path: Path) -> None:
    execution = prepare(tmp_path)
    publish_all(execution)

    assert collect_execution(execution).is_complete


def test_failure_that_cannot_be_encoded_is_shown_escaped(tmp_path: Path) -> None:
    execution = prepare(tmp_path)
    fail(execution, stubs_of(execution)[0], attempts=2, message="no file /data/\udcff")

    result = run_cli("collect", tmp_path)

    assert result.exit_code == 1
    assert r"no file /data/\udcff" in result.stdout


def test_markup_in_a_failure_is_text(tmp_path: Path) -> None:
    execution = prepare(tmp_path)
    fail(execution, stubs_of(execution)[0], attempts=2, message="[red]index[/] [0] :boom:")

    assert "[red]index[/] [0] :boom:" in run_cli("collect", tmp_path).stdout


def test_failure_without_a_message(tmp_path: Path) -> None:
    execution = prepare(tmp_path)
    fail(execution, stubs_of(execution)[0], attempts=2, message="")

    assert run_cli("collect", tmp_path).exit_code == 1


# Which execution


@pytest.fixture
def three(tmp_path: Path) -> list[ExecutionDir]:
    """An old complete execution, a newer one of another sweep, and one that got no manifest."""
    old = prepare(tmp_path).path.rename(tmp_path / "execution_20240101_000000")
    new = prepare(tmp_path, name="other").path.rename(tmp_path / "execution_20250101_000000")
    (tmp_path / "execution_20260101_000000").mkdir()
    (tmp_path / "notes").mkdir()
    publish_all(ExecutionDir(old))
    return [ExecutionDir(old), ExecutionDir(new)]


def test_newest_execution_is_collected(three: list[ExecutionDir]) -> None:
    assert run_cli("collect", three[0].path.parent).exit_code == 1
    assert not three[0].summary_json.exists()
    assert summary_of(three[1])["name"] == "other"


@pytest.mark.parametrize("name", ["execution_20240101_000000", "20240101_000000"])
def test_execution_can_be_named(three: list[ExecutionDir], name: str) -> None:
    assert run_cli("collect", three[0].path.parent, "--execution", name).exit_code == 0
    assert three[0].summary_json.exists()
    assert not three[1].summary_json.exists()


def test_execution_folder_can_be_given_itself(three: list[ExecutionDir]) -> None:
    assert run_cli("collect", three[0].path).exit_code == 0
    assert not three[1].summary_json.exists()


def test_all_executions_are_collected_oldest_first(three: list[ExecutionDir]) -> None:
    result = run_cli("collect", three[0].path.parent, "--all")

    assert result.exit_code == 1
    assert three[0].summary_json.exists()
    assert three[1].summary_json.exists()
    assert result.stdout.index("12 complete") < result.stdout.index("12 pending")


def test_user_mistake_is_exit_code_2(tmp_path: Path) -> None:
    assert run_cli("collect", tmp_path).exit_code == 2
    assert run_cli("collect", tmp_path, "--nonsense").exit_code == 2
