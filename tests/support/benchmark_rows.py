"""Small data in the schema that each benchmark's rows have on the hub, for runs of whole sweeps."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

__all__ = ["write_aime", "write_jsonl", "write_longbench"]

_CLASSES = {"trec": ["city", "country", "person"], "lsht": ["体育", "财经", "科技"]}
_ANSWERS = {
    "multifieldqa_zh": ["北京大学"],
    "dureader": ["我们在北京大学"],
    "vcsum": ["会议讨论了北京大学的计划"],
    "trec": ["city"],
    "lsht": ["体育"],
    "passage_count": ["12"],
    "passage_retrieval_en": ["Paragraph 12"],
    "passage_retrieval_zh": ["段落12"],
    "lcc": ["    return value + 1"],
    "repobench-p": ["    return value + 1"],
}


def write_longbench(folder: Path, subsets: Iterable[str], rows: int = 3) -> Path:
    """A file a subset, in the columns of Xnhyacinth/LongBench; its questions are about one text."""
    folder.mkdir()
    for subset in subsets:
        write_jsonl(folder / f"{subset}.jsonl", (_longbench_row(subset, number) for number in range(rows)))
    return folder


def _longbench_row(subset: str, number: int) -> Mapping[str, Any]:
    return {
        "context": "A text. " + "Ann lives in the red house by the lake. " * 20,
        "question": f"Who lives in house {number}?\n",
        "answer_prefix": "Answer:",
        "answers": _ANSWERS.get(subset, ["Ann in the red house", "Ann"]),
        "all_classes": _CLASSES.get(subset),
        "length": 170,
        "dataset": subset,
        "language": "zh" if subset.endswith("zh") else "en",
        "_id": f"{subset}{number:020d}",
        "task": subset,
        "max_new_tokens": 148,
    }


def write_aime(folder: Path, rows: int = 3) -> dict[str, Path]:
    """A file a year, in the columns of Maxwell-Jia/AIME_2024 and yentinglin/aime_2025."""
    first = [{"ID": f"2024-I-{n}", "Problem": f"What is {n} + 200?", "Solution": "Add.", "Answer": n + 200}
             for n in range(rows)]  # fmt: skip
    second = [{"id": n, "problem": f"What is {n} + 30?", "answer": str(n + 30), "solution": "Add.", "year": "2025"}
              for n in range(rows)]  # fmt: skip
    return {
        "aime2024": write_jsonl(folder / "aime2024.jsonl", first),
        "aime2025": write_jsonl(folder / "aime2025.jsonl", second),
    }


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    """A line a row."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path
