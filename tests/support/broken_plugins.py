"""Plug-ins that violate their contract in one way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


def broken(cls: type[Any], changes: Mapping[str, Any]) -> Any:
    """An instance of a subclass with other methods."""
    return dataclass(frozen=True)(type("Broken", (cls,), dict(changes)))()
