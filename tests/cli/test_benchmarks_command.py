"""`hpc-bench benchmarks list`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, make_dataclass
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from hpc_bench import catalog
from hpc_bench.benchmarks.suites.mock_benchmark import MockBenchmark
from hpc_bench.cli import benchmarks_view
from hpc_bench.hub import fetch_data, list_data
from hpc_bench.options import doc
from hpc_bench.values import HubRepo
from tests.support.builders import run_cli
from tests.support.fake_hub import DATA, FakeHub, longbench_repo, running_hub, use_hub


@dataclass(frozen=True)
class Moody(MockBenchmark):
    """Has a size at no time."""

    def size(self, subset: str | None) -> object:  # type: ignore[override]
        raise RuntimeError("not today")


@dataclass(frozen=True)
class Proper(MockBenchmark):
    """Shows [bold] text."""


PLUG_INS = {
    "broken": "tests.no_such_module:Broken",
    "moody": "tests.cli.test_benchmarks_command:Moody",
    "no_benchmark": "tests.support.builders:sweep_data",
    "proper": "tests.cli.test_benchmarks_command:Proper",
}


@pytest.fixture
def plug_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    points = {name: EntryPoint(name, value, "hpc_bench.benchmarks") for name, value in PLUG_INS.items()}
    monkeypatch.setattr(catalog, "_plug_ins", lambda _: points)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A hub with a small LongBench, and an empty cache."""
    benchmarks_view._cached.cache_clear()
    with running_hub() as made:
        made.push(DATA, longbench_repo(tmp_path))
        use_hub(monkeypatch, made, tmp_path / "hf")
        yield made
    benchmarks_view._cached.cache_clear()


def rows_of(output: str) -> dict[str, list[str]]:
    """First cell -> all cells of the first line of each row."""
    lines = [line.split("│")[1:-1] for line in output.splitlines() if line.startswith("│")]
    return {cells[0].strip(): [cell.strip() for cell in cells] for cells in lines if cells[0].strip()}


def test_list_shows_every_benchmark_with_what_it_is_scored_by() -> None:
    result = run_cli("benchmarks", "list")

    assert result.exit_code == 0, result.output
    rows = rows_of(result.stdout)
    assert list(rows) == catalog.names("benchmark")
    assert rows["ruler"][1:4] == ["52", "string_match", "simonjegou/ruler"]
    assert rows["mock_benchmark"][1:4] == ["none", "match", "none on a hub"]
    assert rows["zero_scrolls"][2] == "none"
    assert all(len(row) == 6 and row[5] for row in rows.values())
    assert [rows[name][4] for name in ("longbench", "ruler")] == ["user", "assistant"]


@pytest.mark.parametrize("name", catalog.names("benchmark"))
def test_list_of_one_shows_its_subsets(name: str, hub: FakeHub) -> None:
    result = run_cli("benchmarks", "list", name)

    assert result.exit_code == 0, result.output
    if name == "own_data":
        assert "needs the options data, metric" in result.stdout
    else:
        assert list(rows_of(result.stdout)) == list(catalog.resolve("benchmark", name).subsets or ["(it has none)"])
    assert f"\n{name}: " in result.stdout
    assert not hub.requests


def test_list_of_one_shows_metrics_limits_sizes_and_what_is_cached(hub: FakeHub) -> None:
    musique = HubRepo("dataset", "Xnhyacinth/LongBench", "main", "musique")
    fetch_data(musique, *list_data(musique))
    commit, asked = hub.branches[DATA]["main"], len(hub.requests)

    result = run_cli("benchmarks", "list", "longbench")

    rows = rows_of(result.stdout)
    shown = ["musique", "qa_f1", "32", "200", "16,800", "Xnhyacinth/LongBench", "main", commit[:12]]
    assert rows["musique"] == shown
    assert rows["qasper"][7] == f"{commit[:12]}, incomplete"
    assert rows["trec"][7] == "unknown"
    assert "(trec) at main has no test split" in result.stderr
    assert result.stderr.count("(trec)") == 1
    assert len(hub.requests) == asked


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        (
            "ruler",
            (
                "data (default null): A local folder with ",
                "revision (default main): Of the data set on the hub.",
                "source (default hub)",
                "samples (default 500): Of a generated subset; ",
                "essays (default null): A text file, or a folder of .txt files",
                "data must have the columns context, question, answer_prefix, answer, task, which names the task",
                "data is a folder of tables that several subsets share each: 4096.jsonl, 8192.jsonl, 16384.jsonl, 3",
                "a table is a .jsonl, .parquet, .csv file, a folder of such files, or one made by save_to_disk (test ",
            ),
        ),
        (
            "longbenchv2",
            (
                "data must have the columns context, question, answer_prefix, answer, difficulty, length\n",
                "data is a folder with 0shot.jsonl, cot.jsonl, or one table whose column task names the subset",
            ),
        ),
        ("longbench", ("multifieldqa_zh.jsonl, ... (34 in all), or",)),
        ("zero_scrolls", ("data is one table, of any name, or a folder with default.jsonl", "id, task, which names")),
        ("aime2024", ("data must have the columns Problem, Answer\n", "save_to_disk (train split)")),
        (
            "own_data",
            ("data (needed): ", "metric (needed): ", "prompt (default {}): ", "max_new_tokens (default null)"),
        ),
        ("needle", ("samples (default 100)", "seed (default 0)")),
    ],
)
def test_list_of_one_shows_its_options_and_what_local_data_must_be(name: str, lines: tuple[str, ...]) -> None:
    result = run_cli("benchmarks", "list", name)

    assert result.exit_code == 0, result.output
    for line in lines:
        assert line in result.stdout
    assert ("local data" in result.stdout) == (name not in ("own_data", "needle"))


def test_option_without_a_meaning_is_shown_bare(monkeypatch: pytest.MonkeyPatch) -> None:
    made = make_dataclass("Made", [("size_mb", int, 3)], bases=(Proper,), frozen=True)
    monkeypatch.setattr(catalog, "resolve", lambda *_: made)

    result = run_cli("benchmarks", "list", "made")

    assert result.exit_code == 0, result.output
    assert "\n  size_mb (default 3)\n" in result.stdout


def test_meaning_of_an_option_is_that_of_its_field(monkeypatch: pytest.MonkeyPatch) -> None:
    size = field(default=3, metadata=doc("Of [each] file."))
    made = make_dataclass("Made", [("size_mb", int, size)], bases=(Proper,), frozen=True)
    monkeypatch.setattr(catalog, "resolve", lambda *_: made)

    result = run_cli("benchmarks", "list", "made")

    assert result.exit_code == 0, result.output
    assert "\n  size_mb (default 3): Of [each] file.\n" in result.stdout


def test_nothing_is_cached_where_nothing_was_fetched(hub: FakeHub) -> None:
    rows = rows_of(run_cli("benchmarks", "list", "longbench").stdout)

    assert {row[7] for row in rows.values()} == {"no"}


@pytest.mark.usefixtures("plug_ins")
def test_broken_plug_ins_hide_no_other() -> None:
    result = run_cli("benchmarks", "list")

    assert result.exit_code == 0
    rows = rows_of(result.stdout)
    assert set(rows) == {*catalog.BUILT_IN["benchmark"], "moody", "proper"}
    assert rows["proper"][5] == "Shows [bold] text."
    warnings = result.stderr.splitlines()
    assert len(warnings) == 2
    assert "'broken' from tests.no_such_module:Broken cannot be loaded" in warnings[0]
    assert "'no_benchmark' is no dataclass" in warnings[1]


@pytest.mark.usefixtures("plug_ins")
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nedle", "did you mean 'needle'"),
        ("broken", "cannot be loaded"),
        ("no_benchmark", "is no dataclass: tests.support.builders:sweep_data"),
        ("moody", "'moody' cannot be shown: RuntimeError: not today"),
    ],
)
def test_what_cannot_be_shown_is_one_line(name: str, words: str) -> None:
    result = run_cli("benchmarks", "list", name)

    assert (result.exit_code, result.stderr.count("\n")) == (2, 1), result.stderr
    assert words in result.stderr
