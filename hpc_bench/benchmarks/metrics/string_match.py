"""RULER's two string matches (NVIDIA/RULER, scripts/eval/synthetic/constants.py)."""

from __future__ import annotations

import re
from collections.abc import Sequence

__all__ = ["string_match", "string_match_part"]


def string_match(prediction: str, references: Sequence[str]) -> float:
    """The share of references contained in the prediction, upper or lower case, 0-1 (`string_match_all`)."""
    found = _contained(prediction, references)
    return sum(found) / len(found)


def string_match_part(prediction: str, references: Sequence[str]) -> float:
    """1 if any of the references is contained in the prediction, upper or lower case, else 0."""
    return float(any(_contained(prediction, references)))


def _contained(prediction: str, references: Sequence[str]) -> list[bool]:
    """After the clean-up of control characters in scripts/eval/evaluate.py (`postprocess_pred`)."""
    text = re.sub(r"[\x00-\x1f]", "\n", prediction).strip().lower()
    return [reference.lower() in text for reference in references]
