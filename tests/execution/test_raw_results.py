"""Whatever a model writes and a benchmark asks comes back from raw_results.csv as it was."""

from __future__ import annotations

import csv
import hashlib
import json
import tempfile
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hpc_bench.execution.results.raw_results import (
    COLUMNS,
    Row,
    read_rows,
    read_sample_scores,
    refuse_taken_columns,
    sample_of,
    text_of,
    to_row,
    with_scores,
    write_rows,
)
from hpc_bench.values import Answer, Json, Sample

ODD = [
    "",
    " \t ",
    "=1+1",
    "NA",
    'said "so", and left',
    '"',
    "one\r\ntwo\rthree\nfour\r",
    "\0 and \0",
    "half \ud83d a pair",
    "two halves \ud83d\ude00 in one",
    "\U0001f600 \u4e2d\u6587 \ufeff \u2028 \x85 \x1a",
    "json:",
    'json:"x"',
    'json:["x"]',
    r"\ud83d \0 \boxed{7}",
    ",,;\t|",
]
TEXTS = st.sampled_from(ODD) | st.text(st.characters(exclude_categories=())) | st.text('",\r\n\0 json:[]\\')
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.sampled_from(["5", "null"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
QUICK = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def answer(text: str) -> Answer:
    return Answer(text, 10, 2, 3, 0.5, 0.1, 1.0)


def sample(**changes: object) -> Sample:
    return Sample(
        **{"sample_id": "0", "context": "c", "question": "q", "references": ("r",), "max_new_tokens": 4, **changes}
    )  # type: ignore[arg-type]


def written(rows: list[Row]) -> tuple[list[Row], list[dict[str, str]]]:
    """The rows as the csv module reads them, and as pandas does."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "raw_results.csv"
        write_rows(path, rows)
        path.read_bytes().decode("utf-8")
        frame = pd.read_csv(path, dtype=str, keep_default_na=False)
        return read_rows(path), frame.to_dict("records")


@QUICK
@given(st.lists(st.tuples(TEXTS, TEXTS, TEXTS, TEXTS, TEXTS), min_size=1, max_size=4))
def test_any_text_comes_back_through_csv_and_through_pandas(texts: list[tuple[str, ...]]) -> None:
    rows = [
        to_row(sample(sample_id=name, context=context, question=question, task=task), answer(text), keep_context=True)
        for name, context, question, task, text in texts
    ]

    for read in written(rows):
        assert [sample_of(row) for row in read] == [
            sample(sample_id=name, context=context, question=question, task=task, max_new_tokens=0)
            for name, context, question, task, _ in texts
        ]
        assert [text_of(row["prediction"]) for row in read] == [text for *_, text in texts]


@QUICK
@given(
    st.lists(st.text(st.characters(exclude_categories=[])).filter(lambda text: "\udbff" not in text), max_size=3),
    VALUES,
)
def test_references_and_own_columns_come_back_with_their_types(references: list[str], value: Json) -> None:
    lone = [reference for reference in references if json.loads(json.dumps(reference)) == reference]
    asked = sample(references=tuple(lone), extra={"mine": value})

    for read in written([to_row(asked, answer("x"), keep_context=False)]):
        (found,) = map(sample_of, read)
        assert found.references == tuple(lone)
        assert repr(found.extra["mine"]) == repr(value)


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        ("short", "short"),
        (4096, "4096"),
        ("4096", '"4096"'),
        (50.0, "50.0"),
        (True, "true"),
        (None, "null"),
        ("", '""'),
        (["a", "\u4e2d"], '["a", "\u4e2d"]'),
        ({"a": [1]}, '{"a": [1]}'),
        ("[" * 100_000, json.dumps("[" * 100_000)),
    ],
)
def test_own_column_is_json_where_text_would_be_mistaken_for_it(value: Json, cell: str) -> None:
    row = to_row(sample(extra={"mine": value}), answer("x"), keep_context=False)

    assert row["mine"] == cell
    assert sample_of(row).extra == {"mine": value}


@pytest.mark.parametrize("text", ['"Paris"', "[1, 2]", "=1+1", "a\nb", r"\boxed{7}", "\u4e2d\u6587"])
def test_usual_answer_stands_in_its_cell_as_it_is(text: str) -> None:
    assert to_row(sample(), answer(text), keep_context=False)["prediction"] == text


def test_value_that_only_some_samples_have(tmp_path: Path) -> None:
    asked = [sample(extra={"length": 5}), sample(extra={}), sample(extra={"depth": ""})]
    write_rows(tmp_path / "r.csv", [to_row(one, answer("x"), keep_context=False) for one in asked])

    assert [sample_of(row).extra for row in read_rows(tmp_path / "r.csv")] == [one.extra for one in asked]


def test_context_is_told_by_its_digest_and_kept_on_request() -> None:
    asked = sample(context="a long text \ud800")

    rows = [to_row(asked, answer("x"), keep_context=keep) for keep in (False, True)]

    digest = hashlib.sha256(b"a long text \xed\xa0\x80").hexdigest()
    assert [row["context_sha256"] for row in rows] == [digest, digest]
    assert [sample_of(row).context for row in rows] == ["", asked.context]


def test_columns_are_those_whose_names_are_taken() -> None:
    assert tuple(to_row(sample(), answer("x"), keep_context=True)) == COLUMNS


@pytest.mark.parametrize("name", ["seconds", "score_mine", "context", ""])
def test_own_column_with_a_taken_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=repr(name)):
        refuse_taken_columns([sample(extra={name: 1})])


def test_new_scores_stand_in_the_place_of_the_old_ones() -> None:
    row = with_scores(to_row(sample(extra={"mine": 1}), answer("x"), keep_context=False), {"f1": 1.5, "old": 2.0})

    again = with_scores(row, {"f1": 2.5})

    assert list(again)[4:7] == ["references", "score_f1", "tokens_in"]
    assert again["score_f1"] == "2.5"
    assert again["mine"] == "1"


def test_lines_end_as_in_rfc_4180(tmp_path: Path) -> None:
    write_rows(tmp_path / "r.csv", [to_row(sample(), answer("a\nb"), keep_context=False)])

    raw = (tmp_path / "r.csv").read_bytes()

    assert raw.count(b"\r\n") == 2
    assert b'"a\nb"' in raw


def test_torn_row_is_an_error(tmp_path: Path) -> None:
    write_rows(tmp_path / "r.csv", [to_row(sample(), answer("a\nb"), keep_context=False)])
    raw = (tmp_path / "r.csv").read_bytes()

    for end in (raw.rindex(b","), raw.index(b"\nb") + 1):
        (tmp_path / "torn.csv").write_bytes(raw[:end])
        with pytest.raises(ValueError, match=r"torn.csv|zip"):
            read_rows(tmp_path / "torn.csv")


def test_big_field_is_read(tmp_path: Path) -> None:
    csv.field_size_limit()
    write_rows(tmp_path / "r.csv", [to_row(sample(context="x" * 1_000_000), answer("a"), keep_context=True)])

    assert len(read_rows(tmp_path / "r.csv")[0]["context"]) == 1_000_000


@pytest.mark.parametrize("content", [b'"sample_id,task\r\n', b'"sample_id"x,task\r\n1,2\r\n'], ids=["open", "stray"])
def test_torn_heading_is_an_error_that_names_the_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "torn.csv").write_bytes(content)
    for read in (read_rows, lambda path: read_sample_scores(path, "score")):
        with pytest.raises(ValueError, match=r"torn.csv: "):
            read(tmp_path / "torn.csv")
