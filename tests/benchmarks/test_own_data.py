"""A benchmark without code: rows of one's own, a metric by name, a prompt."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import datasets
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from hpc_bench import catalog
from hpc_bench.benchmarks.metrics.named import METRICS
from hpc_bench.benchmarks.suites.own_data import OwnData
from hpc_bench.errors import DatasetError, SweepError
from hpc_bench.execution.manifest import read_manifest
from hpc_bench.sweep.expand import expand_sweep
from hpc_bench.sweep.sweep import parse_sweep
from hpc_bench.values import Sample
from tests.support import benchmark_rows
from tests.support.builders import prepare, run_cli, sweep_data, write_sweep
from tests.support.places import REPOSITORY
from tests.support.running import hpc_bench, results, submit, write_scripted_sweep

PROMPT = {"context": "Read:\n{context}\n", "question": "Q: {question}\n", "answer_prefix": "A:"}


def row(**changes: Any) -> dict[str, Any]:
    fields = {"context": "A text.", "question": "Who?", "answers": ["Ann", "Ann Lee"], "max_new_tokens": 7}
    return {key: value for key, value in {**fields, **changes}.items() if value is not ...}


def write_jsonl(path: Path, *rows: dict[str, Any]) -> str:
    return str(benchmark_rows.write_jsonl(path, rows))


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    if path.suffix == ".jsonl":
        write_jsonl(path, *rows)
    elif path.suffix == ".parquet":
        datasets.Dataset.from_list(rows).to_parquet(str(path))
    else:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows({k: v if isinstance(v, str) else json.dumps(v) for k, v in row.items()} for row in rows)


@pytest.mark.parametrize(
    ("metric", "prediction", "references", "value"),
    [
        ("qa_f1", "the red house", ["red big house"], 0.8),
        ("exact_match", "The Cat!", ["dog", "cat"], 1.0),
        ("exact_match", "the cat sat", ["cat"], 0.0),
        ("exact_match", "", ["cat"], 0.0),
        ("contains", "It was ANN.", ["bob", "ann"], 1.0),
        ("contains", "It was Al.", ["bob", "ann"], 0.0),
        ("contains_all", "one and three", ["one", "two", "three"], 2 / 3),
        ("contains_all", "", ["one"], 0.0),
        ("rouge_l", "a b c", ["x", "a b d"], 2 / 3),  # 2 of 3 words said and of 3 wanted
        ("rouge_l", "...", ["a"], 0.0),
    ],
)
def test_metrics_by_hand(metric: str, prediction: str, references: list[str], value: float) -> None:
    assert METRICS[metric](prediction, references) == pytest.approx(value, abs=1e-7)


@settings(deadline=None)
@given(st.sampled_from(sorted(METRICS)), st.text(max_size=200), st.lists(st.text(max_size=20), max_size=3))
def test_no_text_breaks_a_metric(metric: str, prediction: str, references: list[str]) -> None:
    assert 0 <= METRICS[metric](prediction, references) <= 1


def test_prompt_is_filled_and_nothing_else_in_braces_is_touched(tmp_path: Path) -> None:
    data = write_jsonl(tmp_path / "my.jsonl", row(context="{question} {0.__class__}", question="{context}?"))
    prompt = {"context": '{"a": 1} {context} {x.__init__}', "question": "{question}{}", "answer_prefix": "{"}

    (sample,) = OwnData(data, "qa_f1", prompt).load(None, len)

    assert sample.context == '{"a": 1} {question} {0.__class__} {x.__init__}'
    assert (sample.question, sample.answer_prefix) == ("{context}?{}", "{")


def test_rows_are_used_as_they_are_without_a_prompt(tmp_path: Path) -> None:
    data = write_jsonl(tmp_path / "my.jsonl", row(answer_prefix="So:", task="t1"))

    (sample,) = OwnData(data, "qa_f1").load(None, len)

    assert sample == Sample("0000", "A text.", "Who?", ("Ann", "Ann Lee"), 7, "So:", "t1")


@pytest.mark.parametrize("kind", ["jsonl", "parquet", "csv", "folder", "saved"])
def test_data_in_every_form(tmp_path: Path, kind: str) -> None:
    rows = [row(context="a"), row(context="b", answers=["Bob"]), row(context="a", question="Why?")]
    path = tmp_path / f"my.{kind}"
    if kind == "jsonl":
        write_jsonl(path, *rows)
    elif kind == "parquet":
        datasets.Dataset.from_list(rows).to_parquet(str(path))
    elif kind == "csv":
        write_rows(path, rows)
    elif kind == "folder":
        path.mkdir()
        write_jsonl(path / "1.jsonl", rows[0])
        write_jsonl(path / "2.jsonl", *rows[1:])
    else:
        datasets.Dataset.from_list(rows).save_to_disk(str(path))

    samples = OwnData(str(path), "qa_f1").load(None, len)

    assert [(s.sample_id, s.context, s.references) for s in samples] == [
        ("0000", "a", ("Ann", "Ann Lee")),
        ("0002", "a", ("Ann", "Ann Lee")),
        ("0001", "b", ("Bob",)),
    ]


@pytest.mark.parametrize(
    ("fields", "references"),
    [
        ({"answers": ..., "answer": "Ann"}, ("Ann",)),
        ({"answers": ..., "answer": 42}, ("42",)),
        ({"answers": [1, 2]}, ("1", "2")),
        ({"answers": "[not json"}, ("[not json",)),
        ({"answers": None, "answer": "[x]"}, ("[x]",)),
    ],
)
def test_answers_may_be_lists_texts_or_numbers(tmp_path: Path, fields: dict[str, Any], references: Any) -> None:
    data = write_jsonl(tmp_path / "my.jsonl", row(**fields))

    (sample,) = OwnData(data, "qa_f1").load(None, len)

    assert sample.references == references


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"answers": []}, "line 2: has no answer"),
        ({"answers": None}, "line 2: has no answer"),
        ({"max_new_tokens": 0}, "line 2: max_new_tokens is 0"),
    ],
)
def test_wrong_row_is_named(tmp_path: Path, fields: dict[str, Any], words: str) -> None:
    data = write_jsonl(tmp_path / "my.jsonl", row(), row(**fields))

    with pytest.raises(DatasetError, match=words):
        OwnData(data, "qa_f1").load(None, len)


def test_folder_with_wrong_columns_is_refused_when_it_is_read(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "1.jsonl", {"text": "a"})

    with pytest.raises(DatasetError, match=r"lacks context, question, max_new_tokens, answer or answers"):
        OwnData(str(tmp_path), "qa_f1").load(None, len)


def test_option_wins_over_the_column_of_new_tokens(tmp_path: Path) -> None:
    data = write_jsonl(tmp_path / "my.jsonl", row())

    (sample,) = OwnData(data, "qa_f1", max_new_tokens=32).load(None, len)

    assert sample.max_new_tokens == 32


def test_score_is_the_mean_and_given_by_task(tmp_path: Path) -> None:
    data = write_jsonl(tmp_path / "my.jsonl", row())
    samples = [Sample(str(i), "c", "q", ("Ann",), 7, task=task) for i, task in enumerate(["a", "a", "b"])]

    scores = OwnData(data, "contains").score(samples, ["Ann", "Bob", "Ann"])

    assert scores.score == scores.metrics["contains"].value == 66.67
    assert scores.by == {"task": {"a": 50.0, "b": 100.0}}


def test_fingerprint_follows_content_and_options_and_not_the_path(tmp_path: Path) -> None:
    data = [write_jsonl(tmp_path / name, row(**fields)) for name, fields in (("a.jsonl", {}), ("b.jsonl", {}))]
    other = write_jsonl(tmp_path / "c.jsonl", row(question="Why?"))
    made = [
        OwnData(data[0], "qa_f1"),
        OwnData(data[1], "qa_f1"),
        OwnData(other, "qa_f1"),
        OwnData(data[0], "contains"),
        OwnData(data[0], "qa_f1", {"answer_prefix": "A:"}),
        OwnData(data[0], "qa_f1", max_new_tokens=3),
    ]

    identities = [json.dumps(benchmark.identity(None)) for benchmark in made]

    assert identities[0] == identities[1]
    assert len(set(identities)) == 5
    assert str(tmp_path) not in identities[0]


def test_manifest_rebuilds_it_by_its_kind(tmp_path: Path) -> None:
    data = write_jsonl(tmp_path / "my.jsonl", row())
    options = {"data": data, "metric": "rouge_l", "prompt": PROMPT, "max_new_tokens": 32}
    benchmarks = {"my_set": options, "own_data": options, "needle": [256]}

    header = expand_sweep(parse_sweep(sweep_data(tmp_path, benchmark_configs=benchmarks))).header

    assert header.benchmarks["my_set"].kind == header.benchmarks["own_data"].kind == "own_data"
    assert header.benchmark("my_set") == header.benchmark("own_data") == OwnData(data, "rouge_l", PROMPT, 32)
    assert header.benchmark("needle").subsets


def test_manifest_without_kinds_is_read_as_before(tmp_path: Path) -> None:
    execution = prepare(tmp_path)
    head, _, stubs = execution.manifest.read_text().partition("\n")
    header = json.loads(head)
    del header["benchmarks"]["needle"]["kind"]
    execution.manifest.write_text(f"{json.dumps(header)}\n{stubs}")

    assert type(read_manifest(execution).header.benchmark("needle")).__name__ == "Needle"


@pytest.mark.parametrize(("answer", "score"), [("right", 100.0), ("half", 50.0), ("wrong", 0.0)])
def test_whole_path(tmp_path: Path, answer: str, score: float) -> None:
    data = write_jsonl(tmp_path / "my.jsonl", row(), row(context="Another.", answers=["Bob"]))
    mine = {"data": data, "metric": "qa_f1", "prompt": PROMPT, "max_new_tokens": 32}
    sweep = write_scripted_sweep(
        tmp_path,
        script={"answer": answer},
        sparse_attention_configs={"dense": None},
        benchmark_configs={"my_set": mine},
        max_concurrent_runs=1,
    )

    done = submit(sweep)

    assert done.returncode == 0, done.stdout + done.stderr
    (result,) = results(sweep)
    assert result.name == "my_set"
    assert json.loads((result / "metrics.json").read_text())["score"] == score
    if answer == "right":
        write_jsonl(tmp_path / "my.jsonl", row(), row(context="Changed.", answers=["Bob"]))
        assert "benchmark.sha256" in hpc_bench("submit", "--gpus", "none", str(sweep)).stderr


MISTAKES: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "unknown metric": ({"metric": "qaf1"}, ("unknown metric 'qaf1'", "did you mean 'qa_f1'?")),
    "no data": ({"data": ...}, (".data: ", "required")),
    "no metric": (
        {"metric": ..., "max_new_tokens": 4},
        (": metric is missing (valid: contains, contains_all, exact_match, qa_f1, rouge_l)",),
    ),
    "data is nowhere": (
        {"data": "nowhere.jsonl"},
        (
            "data: ",
            "nowhere.jsonl does not exist",
        ),
    ),
    "unknown option": ({"metrc": "x"}, ("did you mean 'metric'?",)),
    "no {context}": ({"prompt": {"context": "Read this."}}, ("prompt.context must hold {context}",)),
    "no {question}": ({"prompt": {"question": "Q: {Question}"}}, ("prompt.question must hold {question}",)),
    "{question} in the context": (
        {"prompt": {"context": "{question} {context}"}},
        ("prompt.context cannot hold {question}",),
    ),
    "unknown part": ({"prompt": {"contxt": "{context}"}}, ("did you mean 'context'?",)),
    "prompt is text": ({"prompt": "{context}"}, (".prompt: ",)),
    "no new tokens": ({"max_new_tokens": 0}, ("max_new_tokens must be at least 1",)),
    "subsets": ({"subsets": ["a"]}, ("my_set.subsets: ", "no subsets")),
}


@pytest.mark.parametrize(("changes", "words"), MISTAKES.values(), ids=MISTAKES)
def test_mistake_is_one_line_that_names_the_key(
    tmp_path: Path, changes: dict[str, Any], words: tuple[str, ...]
) -> None:
    data = write_jsonl(tmp_path / "my.jsonl", row())
    options = {key: value for key, value in {"data": data, "metric": "qa_f1", **changes}.items() if value is not ...}

    refuse(tmp_path, {"my_set": options}, "benchmark_configs.my_set", *words)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("my.jsonl", b'{"context": "a", "quest": "b"}\n', ("lacks question, max_new_tokens, answer or answers",)),
        ("my.jsonl", b'{"context": "a", "quest": "b"}\n', ("(columns found: context, quest)", "option as well")),
        ("my.jsonl", b"", ("does not begin with a row",)),
        ("my.jsonl", b"[1]\n", ("does not begin with a row",)),
        ("my.jsonl", b"[" * 100_000, ("does not begin with a row",)),
        ("my.jsonl", b"\xff\xfe", ("is not UTF-8 text",)),
        ("my.csv", b"context,answer\n", ("lacks question, max_new_tokens",)),
        ("my.parquet", b"PAR1", ("no parquet file",)),
        ("my.txt", b'{"context": 1, "question": 2, "answer": 3, "max_new_tokens": 4}', (".txt is none of .jsonl, ",)),
        ("my", b"a,b", ("no ending is none of .jsonl, .parquet, .csv", "give such a file")),
    ],
)
def test_data_of_another_schema_is_one_line(tmp_path: Path, name: str, content: bytes, words: tuple[str, ...]) -> None:
    (tmp_path / name).write_bytes(content)

    refuse(tmp_path, {"my_set": {"data": str(tmp_path / name), "metric": "qa_f1"}}, *words)


def test_new_name_must_be_fit_for_a_folder(tmp_path: Path) -> None:
    data = write_jsonl(tmp_path / "my.jsonl", row())

    refuse(tmp_path, {"../x": {"data": data, "metric": "qa_f1"}}, "'../x' cannot be used as a name")


def test_misspelt_name_stays_a_misspelt_name(tmp_path: Path) -> None:
    refuse(tmp_path, {"longbenh": {"data": str(tmp_path)}}, "unknown benchmark 'longbenh'; did you mean 'longbench'?")


def test_name_without_options_says_how_to_name_rows_of_ones_own(tmp_path: Path) -> None:
    words = ("unknown benchmark 'my_set' (valid: aime2024", "or give data and metric for rows of your own")

    refuse(tmp_path, {"my_set": None}, "benchmark_configs: ", *words)


def refuse(folder: Path, benchmarks: dict[str, Any], *words: str) -> None:
    sweep = write_sweep(folder, benchmark_configs=benchmarks)

    result = run_cli("plan", sweep)

    assert (result.exit_code, result.stderr.count("\n")) == (2, 1), result.output
    for word in words:
        assert word in result.stderr


def test_readme_of_the_example_holds_a_sweep_that_is_understood(tmp_path: Path) -> None:
    readme = (REPOSITORY / "examples" / "custom_benchmark" / "README.md").read_text()
    options = yaml.safe_load(readme.split("```yaml\n")[1].split("```")[0])["benchmark_configs"]["my_set"]
    options["data"] = write_jsonl(tmp_path / "my.jsonl", row())

    sweep = parse_sweep(sweep_data(tmp_path, benchmark_configs={"my_set": options}))

    assert sweep.benchmarks[0].kind == "own_data"


# Texts as they were written


def references_of(path: Path, **options: Any) -> list[tuple[str, ...]]:
    own = OwnData(data=str(path), metric="exact_match", **{"max_new_tokens": 4, **options})
    return [sample.references for sample in own.load(None, len)]


@pytest.mark.parametrize(
    "texts", [["2021-03-04", "2021-03-05"], ["007", "42"], ["1.50", "true"], ["NA", "null"]], ids=str
)
@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_answers_stay_as_they_were_written(tmp_path: Path, form: str, texts: list[str]) -> None:
    path = tmp_path / f"rows.{form}"
    lines = [json.dumps({"context": "c", "question": text, "answer": text}) for text in texts]
    if form == "csv":
        lines = ["context,question,answer", *(f"c,{text},{text}" for text in texts)]
    path.write_text("\ufeff" + "\n".join(lines) + "\n", encoding="utf-8")

    samples = list(OwnData(data=str(path), metric="exact_match", max_new_tokens=4).load(None, len))

    assert [(sample.question, sample.references) for sample in samples] == [(text, (text,)) for text in texts]


def test_whole_numbers_of_a_jsonl_are_their_digits(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    write_jsonl(path, *({"context": "c", "question": "q", "answer": number} for number in (1, 150)))

    assert references_of(path) == [("1",), ("150",)]


SQUAD = {"text": ["Paris", "the city of Paris"], "answer_start": [16, 4]}


@pytest.mark.parametrize("answers", [SQUAD, [{"text": text, "answer_start": 0} for text in SQUAD["text"]]])
@pytest.mark.parametrize("form", ["jsonl", "parquet", "csv"])
def test_answers_of_squad_are_their_texts(tmp_path: Path, form: str, answers: Any) -> None:
    path = tmp_path / f"rows.{form}"
    write_rows(path, [{"context": "c", "question": "q", "answers": answers}])

    assert references_of(path) == [("Paris", "the city of Paris")]


def test_answer_of_squad_that_cannot_be_given_is_refused_by_row(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    write_rows(path, [{"context": "c", "question": "q", "answers": {"text": ["a"][:n], "answer_start": [0][:n]}}
                      for n in (1, 0)])  # fmt: skip

    with pytest.raises(DatasetError, match=r"rows\.parquet: row 2: has no answer"):
        references_of(path)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ('{"label": "Paris"}', r'answer is {"label": "Paris"}, not text; give text in its place'),
        ('{"text": "Paris", "start": 1}', r"answer is {.*, not text"),
        ('{"text": null}', r"answer is null, not text"),
        ('["Rome", ["Paris"]]', r'answer\[1\] is \["Paris"\], not text'),
        ('["Paris", null]', r"answer\[1\] is null, not text; give text in its place"),
        ("NaN", "answer is NaN, not text; put it in quotes"),
        ("true", "answer is true, not text; put it in quotes"),
        ("1e3", "answer is 1000.0, not text; put it in quotes"),
        ("[0.1]", r"answer\[0\] is 0.1, not text; put it in quotes"),
    ],
)
def test_answer_without_a_text_of_its_own_is_refused_by_row_and_key(tmp_path: Path, answer: str, said: str) -> None:
    path = tmp_path / "rows.jsonl"
    asked = '{"context": "c", "question": "q", "answer": '
    path.write_text(f'{asked}"a"}}\n\n{asked}{answer}}}\n')

    with pytest.raises(DatasetError, match=rf"rows\.jsonl: line 3: {said}"):
        references_of(path)


@pytest.mark.parametrize("column", ["context", "question", "answer_prefix", "task"])
@pytest.mark.parametrize("value", [{"a": 1}, ["a"], 0.1, True])
def test_prompt_is_made_of_texts_alone(tmp_path: Path, column: str, value: Any) -> None:
    path = tmp_path / "rows.jsonl"
    write_jsonl(path, row(), row(**{column: value}))

    with pytest.raises(DatasetError, match=rf"rows\.jsonl: line 2: {column} is .*, not text"):
        references_of(path)


@pytest.mark.parametrize("column", ["context", "question"])
def test_row_that_lacks_what_is_asked_is_refused(tmp_path: Path, column: str) -> None:
    path = tmp_path / "rows.jsonl"
    write_jsonl(path, row(), row(**{column: ...}))

    with pytest.raises(DatasetError, match=f"line 2: {column} is null, not text"):
        references_of(path)


@pytest.mark.parametrize(
    ("form", "place"),
    [("jsonl", "b.jsonl: line 2"), ("csv", "b.csv: line 3"), ("parquet", "b.parquet: row 2"), ("saved", "row 4")],
)
def test_row_of_a_folder_is_named_with_its_file(tmp_path: Path, form: str, place: str) -> None:
    good, bad = row(answers=["a"]), row(answers=["a"], max_new_tokens=0)
    (tmp_path / "data").mkdir()
    if form == "saved":
        datasets.Dataset.from_list([good, good, good, bad]).save_to_disk(str(tmp_path / "data"))
    else:
        write_rows(tmp_path / "data" / f"a.{form}", [good, good])
        write_rows(tmp_path / "data" / f"b.{form}", [good, bad])

    with pytest.raises(DatasetError, match=rf"data: {place}: max_new_tokens is"):
        OwnData(str(tmp_path / "data"), "qa_f1").load(None, len)


@pytest.mark.parametrize(("form", "line"), [("jsonl", '{"context"'), ("csv", "c,q")])
def test_line_of_a_folder_that_cannot_be_read_is_named_with_its_file(tmp_path: Path, form: str, line: str) -> None:
    for name in ("a", "b"):
        write_rows(tmp_path / f"{name}.{form}", [{"context": "c", "question": "q", "answer": "a"}])
    with (tmp_path / f"b.{form}").open("a") as file:
        file.write(line)

    with pytest.raises(DatasetError, match=rf"cannot be read: b\.{form}: line [23] "):
        references_of(tmp_path)


# Rows of a .csv


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("Oslo is in Norway, says the guide,Where is Oslo?,Norway\n", "line 2 has 4 fields, and the heading 3"),
        ("c,q,a\n\nc,q\n", "line 4 has 2 fields, and the heading 3"),
        ('"two\nlines",q,a\nc,q,a,b\n', "line 4 has 4 fields"),
        ('c,q,a\nc,q,"Norway\nc,q,a\n', "line 3 is no row: a quoted text that never ends"),
        ('c,q,a\n"he said "yes" to me",q,a\n', "line 3 is no row: "),
        ("c,q,\"['Paris', 'Rome']\"\n", "line 2: answer is .* as Python shows a list; write it as JSON"),
        ("c,q,\"{'text': array(['Paris'], dtype=object)}\"\n", "line 2: answer is .* write it as JSON"),
    ],
)
@pytest.mark.parametrize("benchmark", ["own_data", "aime2025"])
def test_csv_row_of_another_form_is_refused_by_line(tmp_path: Path, benchmark: str, rows: str, said: str) -> None:
    heading = "context,question,answer\n" if benchmark == "own_data" else "problem,solution,answer\n"
    (tmp_path / "rows.csv").write_text(heading + rows)
    options: dict[str, Any] = {"metric": "qa_f1", "max_new_tokens": 4} if benchmark == "own_data" else {}

    with pytest.raises(DatasetError, match=rf"rows\.csv cannot be read: {said}"):
        catalog.build("benchmark", benchmark, {"data": str(tmp_path / "rows.csv"), **options}).load(None, len)


def test_row_that_is_nested_too_deeply_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"context": "c", "question": "q", "answer": "a", "other": ' + "[" * 900 + "]" * 900 + "}\n")

    with pytest.raises(DatasetError, match=r"rows\.jsonl cannot be read: "):
        references_of(path)


def test_column_that_a_csv_names_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("context,question,answer,answer\nc,q,a,b\n")

    with pytest.raises(DatasetError, match="line 1 names the column 'answer' twice"):
        references_of(path)


def test_csv_of_spreadsheets_is_read(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    long = "word, " * 50_000
    path.write_bytes(f'\ufeffcontext,question,answer,\r\n"{long}","a\r\nb",x,\r\n   \r\nc,"say ""hi""",y,\r\n'.encode())

    samples = OwnData(data=str(path), metric="exact_match", max_new_tokens=4).load(None, len)

    assert [(s.context, s.question, s.references) for s in samples] == [
        (long, "a\r\nb", ("x",)),
        ("c", 'say "hi"', ("y",)),
    ]


def test_limits_in_a_csv_are_numbers(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("context,question,answer,max_new_tokens\nc,q,a,5\n")

    (sample,) = OwnData(data=str(path), metric="exact_match").load(None, len)

    assert sample.max_new_tokens == 5


@pytest.mark.parametrize("metric", ["contains", "contains_all"])
@pytest.mark.parametrize(("prediction", "score"), [("", 100.0), (" \n", 100.0), ("Paris", 0.0)])
def test_no_answer_is_found_in_an_empty_answer_alone(
    tmp_path: Path, metric: str, prediction: str, score: float
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"context": "c", "question": "q", "answer": ""}\n')
    own = OwnData(data=str(path), metric=metric, max_new_tokens=4)

    assert own.score(own.load(None, len), [prediction]).score == score


# Folders


def test_split_may_be_the_name_of_a_folder(tmp_path: Path) -> None:
    for split in ("train", "test"):
        (tmp_path / split).mkdir()
        write_jsonl(tmp_path / split / "0000.jsonl", {"context": "c", "question": "q", "answer": split})

    assert references_of(tmp_path) == [("test",)]


def test_hidden_copies_are_no_data(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / ".ipynb_checkpoints"):
        folder.mkdir(exist_ok=True)
        (folder / "rows.jsonl").write_text('{"context": "c", "question": "q", "answer": "a"}\n')

    assert references_of(tmp_path) == [("a",)]


@pytest.mark.parametrize("line", ['["a"]', "5", '{"context": "c"', "NaN"])
def test_line_that_is_no_object_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"context": "c", "question": "q", "answer": "a"}\n' + line + "\n")

    with pytest.raises(DatasetError, match=r"rows\.jsonl cannot be read: line 2 is no JSON"):
        references_of(path)


@pytest.mark.parametrize(
    ("data", "said"),
    [("~no-such-user/rows.jsonl", "cannot be used"), ("x" * 5000, "cannot be used"), (" ", "is empty")],
)
@pytest.mark.parametrize("benchmark", [{"metric": "qa_f1"}, {"subsets": ["trec"]}])
def test_path_that_cannot_be_looked_at_is_refused(
    tmp_path: Path, benchmark: dict[str, Any], data: str, said: str
) -> None:
    name = "mine" if "metric" in benchmark else "longbench"

    with pytest.raises(SweepError, match=f"^benchmark_configs.{name}[.:] ?data: .*{said}"):
        parse_sweep(sweep_data(tmp_path, benchmark_configs={name: {**benchmark, "data": data}}))
