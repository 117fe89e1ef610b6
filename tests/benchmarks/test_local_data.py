"""Local data in place of the hub's: every form for every benchmark, and mistakes in it that planning refuses."""

from __future__ import annotations

import csv
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest

from hpc_bench import catalog
from hpc_bench.benchmarks.data.rows import read_local
from hpc_bench.errors import DatasetError, SweepError
from hpc_bench.values import Sample
from tests.support.builders import run_cli, tree, write_sweep
from tests.support.running import HPC_BENCH

Row = dict[str, Any]
TEXTS = {"context": "A text. Ann lives here.", "question": "Who lives here?\n", "answer_prefix": "Answer: "}
ROWS: dict[str, tuple[str | None, Row]] = {
    "longbench": ("qasper", {**TEXTS, "answer_prefix": "", "answers": ["Ann", "Ann Lee"], "length": 5}),
    "longbenchv2": ("cot", {**TEXTS, "answer": "B", "difficulty": "easy", "length": "short", "task": "cot"}),
    "infinite_bench": ("longbook_qa_eng", {**TEXTS, "answer": ["Ann", "Ann Lee"]}),
    "loogle": ("shortdep_qa", {**TEXTS, "answer": "Ann"}),
    "zero_scrolls": ("qasper", {**TEXTS, "id": "a1", "task": "qasper"}),
    "ruler": ("4096_vt", {**TEXTS, "answer": ["Ann", "Bob"], "task": "vt"}),
    "aime2024": (None, {"Problem": "What is 1 + 1?", "Answer": 2}),
    "aime2025": (None, {"problem": "What is 1 + 1?", "answer": "2"}),
    "own_data": (None, {**TEXTS, "answers": ["Ann"], "max_new_tokens": 8}),
}
"""Benchmark -> a subset and one of its rows, in the columns of the hub."""
TABLE = {"ruler": "4096", "aime2024": "default", "aime2025": "default", "zero_scrolls": "default"}
"""Benchmark -> the table that holds its subset, where that is not called like the subset."""
SPLIT = {"aime2024": "train", "aime2025": "train"}
FORMS = ("jsonl", "parquet", "csv", "saved", "splits", "shards", "file")


def write_rows(path: Path, rows: list[Row]) -> None:
    if path.suffix == ".csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows({k: json.dumps(v) if isinstance(v, list) else v for k, v in row.items()} for row in rows)
    elif path.suffix == ".parquet":
        datasets.Dataset.from_list(rows).to_parquet(str(path))
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def write_form(folder: Path, form: str, name: str, rows: list[Row]) -> Path:
    """Data for a benchmark's option `data`."""
    table, split = TABLE.get(name, ROWS[name][0] or "default"), SPLIT.get(name, "test")
    folder.mkdir()
    if form in ("jsonl", "parquet", "csv"):
        write_rows(folder / f"{table}.{form}", rows)
    elif form == "file":
        write_rows(folder / f"{table}.jsonl", [{"task": ROWS[name][0], **row} for row in rows])
        return folder / f"{table}.jsonl"
    elif form == "saved":
        datasets.Dataset.from_list(rows).save_to_disk(str(folder / table))
    elif form == "splits":
        others = datasets.Dataset.from_list([*rows, *rows])
        found = {split: datasets.Dataset.from_list(rows), "validation": others}
        datasets.DatasetDict(found).save_to_disk(str(folder / table))
    else:
        (folder / table).mkdir()
        for number, row in enumerate(rows):
            write_rows(folder / table / f"{split}-{number:05d}-of-{len(rows):05d}.parquet", [row])
        write_rows(folder / table / "validation-00000-of-00001.parquet", rows)
    return folder / table if name == "own_data" and form in ("saved", "splits") else folder


def options_of(name: str, data: Path) -> dict[str, Any]:
    return {"data": str(data)} | ({"metric": "qa_f1"} if name == "own_data" else {})


def load(name: str, data: Path) -> list[Sample]:
    return list(catalog.build("benchmark", name, options_of(name, data)).load(ROWS[name][0], len))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ROWS)
def test_every_form_gives_the_same_samples(tmp_path: Path, name: str, form: str) -> None:
    rows = [ROWS[name][1]] * 3
    expected = load(name, write_form(tmp_path / "plain", "jsonl", name, rows))

    samples = load(name, write_form(tmp_path / form, form, name, rows))

    assert samples == expected
    assert len(samples) == 3


@pytest.mark.parametrize("name", ["longbench", "aime2024", "own_data"])
def test_missing_split_names_those_that_are_there(tmp_path: Path, name: str) -> None:
    rows = datasets.Dataset.from_list([ROWS[name][1]])
    datasets.DatasetDict(dev=rows, other=rows).save_to_disk(str(tmp_path / "saved"))
    (tmp_path / "parts").mkdir()
    rows.to_parquet(str(tmp_path / "parts" / "dev-00000-of-00001.parquet"))

    for data, found in (("saved", "dev, other"), ("parts", "dev")):
        with pytest.raises(
            (DatasetError, SweepError), match=rf"has no split {SPLIT.get(name, 'test')} \(found: {found}\)"
        ):
            read_local(tmp_path / data, SPLIT.get(name, "test"))


def test_folder_of_its_files_alone_is_the_table_of_a_data_set_that_has_one(tmp_path: Path) -> None:
    write_rows(tmp_path / "train-00000-of-00001.parquet", [ROWS["aime2024"][1]] * 2)
    write_rows(tmp_path / "test-00000-of-00001.parquet", [ROWS["aime2024"][1]])

    assert len(load("aime2024", tmp_path)) == 2


def wrong_column(rows: list[Row], text: str) -> list[Row]:
    return [{f"{key}x" if key == text else key: value for key, value in row.items()} for row in rows]


def wrong_type(rows: list[Row], text: str) -> list[Row]:
    return [*rows, {**rows[0], text: 5 if isinstance(rows[0][text], str) else "five"}]


def empty_text(rows: list[Row], text: str) -> list[Row]:
    return [*rows, {**rows[0], text: None}]


FAULTS: dict[str, tuple[Callable[[list[Row], str], list[Row]], str]] = {
    "wrong column": (wrong_column, "lacks "),
    "wrong type": (wrong_type, "line 2: "),
    "no value": (empty_text, "line 2: "),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", ROWS)
def test_rows_of_another_schema_are_refused_by_plan(tmp_path: Path, name: str, fault: str) -> None:
    text = next(iter(ROWS[name][1]))
    change, words = FAULTS[fault]
    if name == "own_data" and fault != "wrong column":
        text = "max_new_tokens"  # a context may be a number here
    rows = change([ROWS[name][1]], text)

    refuse(tmp_path, name, write_form(tmp_path / "data", "jsonl", name, rows), words, text)


@pytest.mark.parametrize("name", [name for name in ROWS if name != "own_data"])
def test_revision_beside_local_data_is_refused_by_plan(tmp_path: Path, name: str) -> None:
    data = write_form(tmp_path / "data", "jsonl", name, [ROWS[name][1]])
    path = write_sweep(tmp_path, benchmark_configs={name: {"data": str(data), "revision": "v2"}})
    before = tree(tmp_path)

    result = run_cli("plan", path)

    said = f"Error: {path}: benchmark_configs.{name}: revision has no effect with data; leave out one\n"
    assert (result.exit_code, result.stderr) == (2, said)
    assert tree(tmp_path) == before


def test_wrong_data_is_refused_with_the_benchmark_that_names_it(tmp_path: Path) -> None:
    write_rows(tmp_path / "bad.jsonl", [{"task": "vt", **ROWS["ruler"][1]}])
    (tmp_path / "empty").mkdir()
    cases: list[tuple[str, dict[str, Any], str]] = [
        ("ruler", {"subsets": ["1024_qa_1"], "source": "generate"}, ".qa: 1024_qa_1 is made of"),
        ("ruler", {"subsets": ["4096_vt"], "data": "bad.jsonl"}, ".data: bad.jsonl is not named after its length"),
        ("longbench", {"subsets": ["trec"], "data": "empty"}, ".data: empty holds no trec.jsonl"),
    ]
    for name, options, words in cases:
        options = {key: str(tmp_path / value) if key == "data" else value for key, value in options.items()}
        path = write_sweep(tmp_path, benchmark_configs={name: options})

        result = run_cli("plan", path)

        assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
        said = result.stderr.replace(f"{tmp_path}/", "")
        assert said.startswith(f"Error: sweep.yaml: benchmark_configs.{name}{words}")


@pytest.mark.parametrize("name", ROWS)
def test_empty_data_is_refused_by_plan(tmp_path: Path, name: str) -> None:
    data = write_form(tmp_path / "data", "jsonl", name, [ROWS[name][1]])
    (file,) = data.iterdir()

    file.write_bytes(b"")
    refuse(tmp_path, name, data, str(file))
    file.write_bytes(b"\n\n")
    refuse(tmp_path, name, data, str(file), "no rows" if name != "own_data" else "")


@pytest.mark.parametrize("name", ["longbench", "longbenchv2", "infinite_bench", "loogle", "zero_scrolls", "ruler"])
def test_subset_without_rows_is_refused_by_plan(tmp_path: Path, name: str) -> None:
    rows = [{**ROWS[name][1], "task": "another"}]

    refuse(tmp_path, name, write_form(tmp_path / "data", "file", name, rows), "no rows of task", "(has: another)")


def test_generated_ruler_with_files_that_cannot_be_used_is_refused_by_plan(tmp_path: Path) -> None:
    (tmp_path / "essays.txt").write_text(" \n")
    (tmp_path / "qa.json").write_text('{"data": []}')

    for subset, option in (("512_niah_single_2", "essays"), ("512_qa_1", "qa")):
        suffix = "txt" if option == "essays" else "json"
        entry = {"source": "generate", "subsets": [subset], option: str(tmp_path / f"{option}.{suffix}")}
        refuse_sweep(tmp_path, {"ruler": entry}, "benchmark_configs.ruler: ", "hold")


@pytest.mark.parametrize("form", ["jsonl", "parquet", "csv", "saved"])
def test_torn_file_is_refused_and_never_read_in_part(tmp_path: Path, form: str) -> None:
    rows = [{**ROWS["longbench"][1], "answers": ["Ann \u4e2d"], "length": number} for number in range(3)]
    data = write_form(tmp_path / "data", form, "longbench", rows)
    file = next(path for path in sorted(data.rglob("*")) if path.suffix in (".arrow", f".{form}"))
    whole = file.read_bytes()
    last = whole.rindex(b"\n", 0, -1) if form == "jsonl" else 1 if form != "csv" else whole.rindex(b'["')
    places = range(last + 3, len(whole) - 2, 1 if form in ("jsonl", "csv") else max(1, len(whole) // 7))

    for place in places:
        file.write_bytes(whole[:place])

        with pytest.raises(DatasetError):
            load("longbench", data)
    assert len(places) > 1


def halved(file: Path, half: str) -> None:
    """Puts half of a surrogate pair, or what stands for it, into questions and answers."""
    text = file.read_text()
    for word in ("Wh", "Ann", "qasper"):
        text = text.replace(word, word + half)
    file.write_text(text)


@pytest.mark.parametrize("name", ROWS)
def test_half_of_a_surrogate_pair_is_replaced_and_told_once(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [{key: value for key, value in ROWS[name][1].items() if key != "task"}] * 3
    if name in ("zero_scrolls", "ruler"):
        rows = [{**row, "task": ROWS[name][1]["task"].replace("qasper", "musique")} for row in rows]
    good, bad = (write_form(tmp_path / folder, "jsonl", name, rows) for folder in ("good", "bad"))
    (good_file,), (bad_file,) = good.iterdir(), bad.iterdir()
    halved(good_file, r"\ufffd")
    halved(bad_file, r"\ud83d")
    subset = "musique" if name == "zero_scrolls" else ROWS[name][0]
    build = [catalog.build("benchmark", name, options_of(name, data)) for data in (good, bad)]

    expected, samples = (list(benchmark.load(subset, len)) for benchmark in build)

    assert samples == expected
    assert "\ufffd" in samples[0].question
    (said,) = [record.getMessage() for record in caplog.records]
    assert said.startswith(f"Warning: {bad_file}: half of a surrogate pair")
    assert said.endswith("(rows: 3, the first: line 1)")


@pytest.mark.parametrize("text", [r"blue \ud83d green", r"blue \ude00 green", r"blue \ude00\ud83d green"])
def test_each_half_is_one_character_and_a_pair_stays_a_pair(tmp_path: Path, text: str) -> None:
    file = write_form(tmp_path / "data", "jsonl", "own_data", [ROWS["own_data"][1]]) / "default.jsonl"
    file.write_text(file.read_text().replace("A text.", rf"\ud83d\ude00 {text}"))

    (sample,) = load("own_data", file)

    assert sample.context.startswith("\U0001f600 blue \ufffd")
    assert len(sample.context) == len("\U0001f600 blue  green Ann lives here.") + text.count("\\")


def test_half_in_the_lists_of_a_csv_is_replaced(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = write_form(tmp_path / "data", "csv", "longbench", [ROWS["longbench"][1]])
    halved(data / "qasper.csv", r"\ud83d")

    (sample,) = load("longbench", data)

    assert sample.references == ("Ann\ufffd", "Ann\ufffd Lee")
    assert "first: line 2" in caplog.text


def test_plan_says_once_which_file_holds_half_a_pair(tmp_path: Path) -> None:
    rows = [{**ROWS["longbench"][1], "task": task} for task in ("hotpotqa", "musique")]
    write_rows(tmp_path / "all.jsonl", rows)
    halved(tmp_path / "all.jsonl", r"\ud83d")
    entry = {"subsets": ["hotpotqa", "musique"], "data": str(tmp_path / "all.jsonl")}

    result = subprocess.run(
        [*HPC_BENCH, "plan", "--gpus", "none", str(write_sweep(tmp_path, benchmark_configs={"longbench": entry}))],
        capture_output=True,
        text=True,
        check=False,
    )

    assert result.returncode == 0
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith(f"Warning: {tmp_path / 'all.jsonl'}: half of a surrogate pair")


def test_half_in_the_files_of_generated_ruler_is_replaced_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    paragraphs = [
        {
            "context": rf"Document {n} {{half}}",
            "qas": [{"question": "Who {half}?", "answers": [{"text": "Ann {half}"}]}],
        }
        for n in range(2)
    ]
    text = json.dumps({"data": [{"title": "T", "paragraphs": paragraphs}]})
    (tmp_path / "qa.json").write_text(text.replace("{half}", r"\ud83d"))
    made = catalog.build("benchmark", "ruler", {"source": "generate", "qa": str(tmp_path / "qa.json"), "samples": 1})

    (sample,) = made.load("512_qa_1", lambda text: len(text.split()))

    assert sample.references == ("Ann \ufffd",)
    assert "Who \ufffd?" in sample.question
    assert "Document 0 \ufffd" in sample.context
    assert f"{tmp_path / 'qa.json'}: half of a surrogate pair" in caplog.text


def test_answer_of_generated_ruler_that_is_no_text_is_refused(tmp_path: Path) -> None:
    row = {"question": "Who?", "answer": None, "context": [["Ann", ["Ann is here."]], ["Bob", ["Bob is not."]]]}
    (tmp_path / "qa.json").write_text(json.dumps([row]))
    made = catalog.build("benchmark", "ruler", {"source": "generate", "qa": str(tmp_path / "qa.json")})

    with pytest.raises(DatasetError, match=r"qa\.json is no JSON in the form of HotpotQA.*answer is null, not text"):
        made.check_data(["512_qa_2"])


def test_lacking_part_of_a_table_is_named(tmp_path: Path) -> None:
    data = write_form(tmp_path / "data", "shards", "longbench", [ROWS["longbench"][1]] * 3)
    (data / "qasper" / "test-00001-of-00003.parquet").unlink()

    with pytest.raises(SweepError, match=r"lacks test-00001-of-00003\.parquet"):
        load("longbench", data)


def refuse(folder: Path, name: str, data: Path, *words: str) -> None:
    subset = ROWS[name][0]
    (file,) = data.iterdir() if name == "own_data" and data.is_dir() else (data,)
    options = {**options_of(name, file), **({"subsets": [subset]} if subset else {})}
    refuse_sweep(folder, {name if name != "own_data" else "my_set": options}, *words)


def refuse_sweep(folder: Path, benchmarks: dict[str, Any], *words: str) -> None:
    """`plan` and `submit` end with exit code 2 and one line, and write nothing."""
    sweep = write_sweep(folder, benchmark_configs=benchmarks)
    before = tree(folder)

    for command in ("plan", "submit"):
        result = run_cli(command, "--gpus", "none", sweep)

        assert (result.exit_code, result.stderr.count("\n")) == (2, 1), result.output
        assert result.stderr.startswith(f"Error: {sweep}: benchmark_configs.")
        assert not [word for word in words if word not in result.stderr], result.stderr
        assert tree(folder) == before
