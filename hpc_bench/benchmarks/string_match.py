"""RULER's two string matches (NVIDIA/RULER, scripts/eval/synthetic/constants.py)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from statistics import fmean

__all__ = ["string_match", "string_match_part"]


def string_match(prediction: str, references: Sequence[str]) -> float:
    """The share of references contained in the prediction, upper or lower case, 0-100 (`string_match_all`)."""
    return 100 * fmean(_contained(prediction, references))


def string_match_part(prediction: str, references: Sequence[str]) -> float:
    """100 if any of the references is contained in the prediction, upper or lower case, else 0."""
    return 100.0 * any(_contained(prediction, references))


def _contained(prediction: str, references: Sequence[str]) -> list[bool]:
    """After the clean-up of control characters in scripts/eval/evaluate.py (`postprocess_pred`)."""
    text = re.sub(r"[\x00-\x1f]", "\n", prediction).strip().lower()
    return [reference.lower() in text for reference in references]
