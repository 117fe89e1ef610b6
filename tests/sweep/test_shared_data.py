"""Local data that several subsets of a sweep share: planning reads it once, and notices when it has changed."""

from __future__ import annotations

import io
import json
import weakref
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from hpc_bench.benchmarks.data.rows import read_local
from tests.support.builders import run_cli, write_sweep

TEXTS = {"context": "A text. Ann lives here.", "question": "Who lives here?\n", "answer_prefix": "Answer: "}
ROWS: dict[str, dict[str, Any]] = {
    "longbench": {**TEXTS, "answers": ["Ann"]},
    "ruler": {**TEXTS, "answer": ["Ann"]},
    "zero_scrolls": {**TEXTS, "id": "a1"},
}


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each file was opened as text, which is how it is parsed; hashing opens it as bytes."""
    counts: Counter[str] = Counter()
    really_open = io.open

    def count_and_open(file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        if mode == "r" and isinstance(file, Path):
            counts[file.name] += 1
        return really_open(file, mode, *args, **kwargs)

    monkeypatch.setattr(io, "open", count_and_open)
    return counts


def write_table(path: Path, name: str, tasks: list[str], **changes: Any) -> None:
    rows = [{**ROWS[name], **changes, "task": task} for task in tasks]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def plan(folder: Path, name: str, **options: Any) -> Any:
    return run_cli("plan", write_sweep(folder, benchmark_configs={name: options}))


@pytest.mark.parametrize(
    ("name", "table", "tasks"),
    [
        ("longbench", "all.jsonl", ["qasper", "2wikimqa", "musique"]),
        ("zero_scrolls", "all.jsonl", ["qasper", "quality"]),
        ("ruler", "4096.jsonl", ["vt", "cwe", "fwe"]),
    ],
)
def test_table_of_several_subsets_is_parsed_once(
    tmp_path: Path, opened: Counter[str], name: str, table: str, tasks: list[str]
) -> None:
    write_table(tmp_path / table, name, tasks)
    subsets = [f"4096_{task}" if name == "ruler" else task for task in tasks]

    result = plan(tmp_path, name, data=str(tmp_path / table), subsets=subsets)

    assert result.exit_code == 0, result.output
    assert opened[table] == 1


def test_every_table_is_parsed_once_and_let_go_before_the_next(
    tmp_path: Path, opened: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Table(list[Any]):
        """A list that a weak reference can point to."""

    tables: list[weakref.ref[Table]] = []
    held: list[int] = []

    def read_watched(path: Path, split: str) -> Table:
        held.append(sum(table() is not None for table in tables))
        table = Table(read_local(path, split))
        tables.append(weakref.ref(table))
        return table

    monkeypatch.setattr("hpc_bench.benchmarks.data.table.read_local", read_watched)
    lengths, tasks = ("4096", "8192", "16384"), ["vt", "cwe"]
    (tmp_path / "data").mkdir()
    for length in lengths:
        write_table(tmp_path / "data" / f"{length}.jsonl", "ruler", tasks)
    subsets = [f"{length}_{task}" for task in tasks for length in lengths]

    result = plan(tmp_path, "ruler", data=str(tmp_path / "data"), subsets=subsets)

    assert result.exit_code == 0, result.output
    assert held == [0, 0, 0]
    assert [opened[f"{length}.jsonl"] for length in lengths] == [1, 1, 1]


def test_files_of_generated_subsets_are_parsed_once(tmp_path: Path, opened: Counter[str]) -> None:
    hops = [{"question": "Who?", "answer": "Ann", "context": [["Ann", ["Ann is here."]], ["Bob", ["Bob is not."]]]}]
    (tmp_path / "hotpot.json").write_text(json.dumps(hops))
    (tmp_path / "essay.txt").write_text("Some words of an essay.")
    subsets = [f"{length}_{task}" for length in (512, 1024) for task in ("niah_single_2", "niah_multivalue", "qa_2")]
    files = {"essays": str(tmp_path / "essay.txt"), "qa": str(tmp_path / "hotpot.json")}

    result = plan(tmp_path, "ruler", source="generate", subsets=subsets, **files)

    assert result.exit_code == 0, result.output
    assert (opened["hotpot.json"], opened["essay.txt"]) == (1, 1)


def test_wrong_row_of_any_subset_is_refused(tmp_path: Path) -> None:
    rows = [{**ROWS["longbench"], "task": "qasper"}, {**ROWS["longbench"], "task": "musique", "context": 5}]
    (tmp_path / "all.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    result = plan(tmp_path, "longbench", data=str(tmp_path / "all.jsonl"), subsets=["qasper", "musique"])

    assert result.exit_code == 2
    assert "line 2: context is '5' (int), not text" in result.stderr


def test_table_that_changed_between_two_plans_is_read_again(tmp_path: Path) -> None:
    options: dict[str, Any] = {"data": str(tmp_path / "all.jsonl"), "subsets": ["qasper", "musique"]}
    write_table(tmp_path / "all.jsonl", "longbench", ["qasper", "musique"])
    before = plan(tmp_path, "longbench", **options)

    write_table(tmp_path / "all.jsonl", "longbench", ["qasper"])
    after = plan(tmp_path, "longbench", **options)

    assert (before.exit_code, after.exit_code) == (0, 2)
    assert "holds no rows of task musique (has: qasper)" in after.stderr
