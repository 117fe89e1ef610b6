"""raw_results.csv, one row a sample: everything that scores depend on comes back from it as it was.

The file is UTF-8 and RFC 4180. A text stands in its cell as it is, line breaks and all. Only one that no such file can
carry (with NUL, or half of a surrogate pair), or that begins with `json:`, stands as `json:` and a JSON string: it is
`"".join(json.loads(cell[5:]))`. `references` is a JSON list. A benchmark's own columns are JSON wherever they can be
read as JSON, and else text; an empty cell says that the sample has no such value.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import sys
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hpc_bench.files import open_regular, own_opener
from hpc_bench.values import Answer, Json, Sample

__all__ = [
    "COLUMNS",
    "Row",
    "SampleScores",
    "read_rows",
    "read_sample_scores",
    "refuse_taken_columns",
    "sample_of",
    "text_of",
    "to_row",
    "with_scores",
    "write_rows",
]

Row = Mapping[str, str]
"""Column -> cell, as in the file."""
COLUMNS = (
    "sample_id",
    "task",
    "question",
    "prediction",
    "references",
    "tokens_in",
    "tokens_out",
    "cut_tokens",
    "seconds",
    "prefill_s",
    "density",
    "attention_error",
    "context_sha256",
    "context",
)
"""What a benchmark's own columns cannot be called; nor can they begin with `score_`."""
_SCORE, _MARK = "score_", "json:"
_UNWRITABLE = re.compile("[\0\ud800-\udfff]")
_BETWEEN_HALVES = re.compile("(?<=[\ud800-\udbff])(?=[\udc00-\udfff])")
csv.field_size_limit(2**31 - 1)


def refuse_taken_columns(samples: Iterable[Sample]) -> None:
    """ValueError if a benchmark's own column has the name of one that is there anyway."""
    taken = sorted({name for sample in samples for name in sample.extra if not _is_own(name)})
    if taken:
        raise ValueError(f"a sample's extra cannot hold {', '.join(map(repr, taken))}: raw_results.csv needs the name")


def _is_own(column: str) -> bool:
    return bool(column) and column not in COLUMNS and not column.startswith(_SCORE)


def to_row(sample: Sample, answer: Answer, *, keep_context: bool) -> Row:
    """A sample's row, its scores left out."""
    error = answer.attention_error
    return {
        "sample_id": _text_cell(sample.sample_id),
        "task": _text_cell(sample.task),
        "question": _text_cell(sample.question),
        "prediction": _text_cell(answer.text),
        "references": _json_cell(list(sample.references)),
        "tokens_in": str(answer.tokens_in),
        "tokens_out": str(answer.tokens_out),
        "cut_tokens": str(answer.cut_tokens),
        "seconds": str(round(answer.seconds, 6)),
        "prefill_s": str(round(answer.prefill_s, 6)),
        "density": str(round(answer.density, 6)),
        "attention_error": "" if error is None else str(error),
        "context_sha256": hashlib.sha256(sample.context.encode(errors="surrogatepass")).hexdigest(),
        **({"context": _text_cell(sample.context)} if keep_context else {}),
        **{name: _value_cell(value) for name, value in sample.extra.items()},
    }


def with_scores(row: Row, scores: Mapping[str, float]) -> Row:
    """The row with these scores in the place of any that it has."""
    scored: dict[str, str] = {}
    for column, cell in row.items():
        if not column.startswith(_SCORE):
            scored[column] = cell
        if column == "references":
            scored |= {f"{_SCORE}{name}": str(value) for name, value in scores.items()}
    return scored


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Writes the file."""
    with open(path, "w", encoding="utf-8", errors="backslashreplace", newline="", opener=own_opener) as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(key for row in rows for key in row)), lineterminator="\r\n")
        writer.writeheader()
        writer.writerows(rows)


def read_rows(path: Path) -> list[Row]:
    """All rows; ValueError if one is torn."""
    with _open_table(path) as (heading, rows):
        return [dict(zip(heading, row, strict=True)) for row in rows]


@contextmanager
def _open_table(path: Path) -> Iterator[tuple[list[str], Iterator[list[str]]]]:
    """The columns and the rows of a file; a torn heading or row is a ValueError when it is reached."""
    with open_regular(path) as raw, io.TextIOWrapper(raw, encoding="utf-8", newline="") as file:
        lines = _lines(path, file)
        heading = next(lines, [])
        yield heading, _whole_rows(path, lines, len(heading))


def _lines(path: Path, file: Iterable[str]) -> Iterator[list[str]]:
    try:
        yield from csv.reader(file, strict=True)
    except csv.Error as error:
        raise ValueError(f"{path.name}: {error}") from error


def _whole_rows(path: Path, rows: Iterator[list[str]], width: int) -> Iterator[list[str]]:
    for count, row in enumerate(rows, 1):
        if len(row) != width:
            raise ValueError(f"row {count} of {path.name} has {len(row)} fields, not {width}")
        yield row


@dataclass(frozen=True)
class SampleScores:
    """One column of scores, with the ids of its rows."""

    ids: tuple[str, ...] = ()
    column: str = ""
    """Without its prefix; empty: the file has none."""
    values: Sequence[float] = ()
    """NaN where a field is no number."""


def read_sample_scores(path: Path, headline: str = "") -> SampleScores:
    """All rows, with the scores of the metric `headline`, of the first one if it is empty; ValueError if a row is torn.

    The result's length is that of the table, whatever its columns are.
    """
    ids, texts = [], []
    with _open_table(path) as (heading, rows):
        id_place = heading.index("sample_id") if "sample_id" in heading else None
        place = _score_place(heading, headline)
        for row in rows:
            ids.append("" if id_place is None else row[id_place])
            texts.append("" if place is None else row[place])
    column = "" if place is None else heading[place].removeprefix(_SCORE)
    return SampleScores(tuple(map(sys.intern, ids)), column, array("d", map(_number, texts)))  # most share their ids


def _score_place(heading: list[str], headline: str) -> int | None:
    """Where the column is; None if there is none."""
    wanted = (name == _SCORE + headline if headline else name.startswith(_SCORE) for name in heading)
    return next((place for place, fits in enumerate(wanted) if fits), None)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


def sample_of(row: Row) -> Sample:
    """What was asked, as far as scores may depend on it (`Benchmark.score`); the context only where it was kept."""
    return Sample(
        sample_id=text_of(row["sample_id"]),
        context=text_of(row.get("context", "")),
        question=text_of(row["question"]),
        references=tuple(json.loads(row["references"])),
        max_new_tokens=0,
        task=text_of(row["task"]),
        extra={name: _value_of(cell) for name, cell in row.items() if cell and _is_own(name)},
    )


def _text_cell(text: str) -> str:
    if not text.startswith(_MARK) and not _UNWRITABLE.search(text):
        return text
    # Two halves that make a pair would be read as one character; in two strings they stay two.
    pieces = _BETWEEN_HALVES.split(text)
    return _MARK + json.dumps(pieces if len(pieces) > 1 else text)


def text_of(cell: str) -> str:
    """The text that a cell of sample_id, task, question, prediction or context stands for."""
    if cell.startswith((f'{_MARK}"', f'{_MARK}["')):
        try:
            return "".join(json.loads(cell.removeprefix(_MARK)))
        except (ValueError, TypeError):  # in a file of before there was this rule
            return cell
    return cell


def _json_cell(value: Json) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return json.dumps(value) if _UNWRITABLE.search(text) else text


def _value_cell(value: Json) -> str:
    plain = isinstance(value, str) and value and not _UNWRITABLE.search(value) and not _is_json(value)
    return str(value) if plain else _json_cell(value)


def _is_json(text: str) -> bool:
    """Whether a text can be read as JSON; anything nested counts, since how deep it may be differs from run to run."""
    if text.lstrip()[:1] in ("{", "[", '"'):
        return True
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _value_of(cell: str) -> Json:
    try:
        value: Json = json.loads(cell)
        return value
    except (ValueError, RecursionError):
        return cell
