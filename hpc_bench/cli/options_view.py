"""What the list commands show of the options of a benchmark or masker."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import MISSING, Field, fields
from typing import Any

from rich.console import Console

from hpc_bench.options import doc_of

__all__ = ["option_lines", "print_list"]


def print_list(console: Console, heading: str, lines: Sequence[str]) -> None:
    """The lines under their heading; nothing where there are none."""
    if lines:
        console.print(f"\n{heading}:", *(f"  {line}" for line in lines), sep="\n", soft_wrap=True)


def option_lines(cls: type[Any]) -> list[str]:
    """A line for each option: its name, its default, and what it means."""
    return [": ".join(filter(None, (f"{field.name} ({_default(field)})", doc_of(field)))) for field in fields(cls)]


def _default(field: Field[Any]) -> str:
    """As a sweep would have it."""
    if field.default is field.default_factory is MISSING:
        return "needed"
    value = field.default if field.default_factory is MISSING else field.default_factory()
    return f"default {value if isinstance(value, str) else json.dumps(value, default=str)}"
