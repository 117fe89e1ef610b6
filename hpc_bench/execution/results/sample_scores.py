"""The scores of single samples in a published result's raw_results.csv."""

from __future__ import annotations

import csv
import sys
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["SampleScores", "read_sample_scores"]

_PREFIX = "score_"
csv.field_size_limit(2**31 - 1)


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
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.reader(file, strict=True)
        heading = next(rows, [])
        id_place = heading.index("sample_id") if "sample_id" in heading else None
        place, width = _score_place(heading, headline), len(heading)
        for count, row in enumerate(rows, 1):
            if len(row) != width:
                raise ValueError(f"row {count} of {path.name} has {len(row)} fields, not {width}")
            ids.append("" if id_place is None else row[id_place])
            texts.append("" if place is None else row[place])
    column = "" if place is None else heading[place].removeprefix(_PREFIX)
    return SampleScores(tuple(map(sys.intern, ids)), column, array("d", map(_number, texts)))  # most share their ids


def _score_place(heading: list[str], headline: str) -> int | None:
    """Where the column is; None if there is none."""
    wanted = (name == _PREFIX + headline if headline else name.startswith(_PREFIX) for name in heading)
    return next((place for place, fits in enumerate(wanted) if fits), None)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")
