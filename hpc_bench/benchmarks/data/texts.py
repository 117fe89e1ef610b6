"""What counts as a text in data, and what is done about characters that no prompt can hold."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from typing import Any

__all__ = ["as_text", "as_texts", "warn_of_halves", "without_halves"]

_HALF = re.compile("[\ud800-\udfff]")
_SHOWN = 50
_log = logging.getLogger(__name__)


def without_halves(value: Any) -> Any:
    """The value, with U+FFFD for each half of a surrogate pair in its texts, which UTF-8 and tokenizers refuse.

    JSON can hold one as an escape (`\\ud83d`), where a program has cut an emoji in two.
    """
    if isinstance(value, str):
        return value if value.isascii() else _HALF.sub("\ufffd", value)
    if isinstance(value, list):
        return [without_halves(item) for item in value]
    if isinstance(value, dict):
        return {without_halves(key): without_halves(item) for key, item in value.items()}
    return value


def warn_of_halves(file: Path, where: str) -> None:
    """Says, where planning prints and in an engine's log, that a file's texts are not asked as they are."""
    _log.warning("Warning: %s: half of a surrogate pair in a text is replaced by U+FFFD (%s)", file, where)


def as_text(value: Any, key: str) -> str:
    """A text as it is, and a whole number as its digits; ValueError names the key of anything else.

    A fraction can be written in several ways (0.1, 1e-1), and scores compare what is written.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    shown = json.dumps(value, ensure_ascii=False, default=str)
    shown = shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}..."
    remedy = "put it in quotes" if isinstance(value, (float, bool)) else "give text in its place"
    raise ValueError(f"{key} is {shown}, not text; {remedy}")


def as_texts(value: Any, key: str) -> tuple[str, ...]:
    """One text or a list of them, each as `as_text` reads it."""
    plain = value.tolist() if hasattr(value, "tolist") else value
    if not isinstance(plain, (list, tuple)):
        return (as_text(plain, key),)
    return tuple(as_text(item, f"{key}[{place}]") for place, item in enumerate(plain))
