"""The sections of a sweep file, each a dataclass that checks its own values."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = ["AdapterSection", "LimitsSection", "LocalSection", "ModelEntry", "Pattern", "seconds_of"]


def seconds_of(text: str) -> float:
    """The seconds in a duration such as 90s, 30m, 2h, 1d or 1h30m; ValueError says what is allowed."""
    match = re.fullmatch(r"(?:(\d{1,6})d)?(?:(\d{1,6})h)?(?:(\d{1,6})m)?(?:(\d{1,9})s)?", text.strip())
    total = (
        sum(int(part or 0) * unit for part, unit in zip(match.groups(), (86400, 3600, 60, 1), strict=True))
        if match
        else 0
    )
    if total <= 0:
        raise ValueError(f"{text!r} is not a duration above zero; write it as 90s, 30m, 2h or 1h30m")
    return float(total)


@dataclass(frozen=True)
class ModelEntry:
    """One model and its options."""

    name: str
    revision: str | None = None
    gpus: int = 1
    model_kwargs: dict[str, Any] = field(default_factory=dict)
    trust_remote_code: bool = False

    def __post_init__(self) -> None:
        if self.gpus < 1:
            raise ValueError("gpus must be at least 1")
        for text in (self.name, self.revision or ""):
            if not text.isprintable():
                raise ValueError(f"{text!r} has invisible characters in it; write it without them")


@dataclass(frozen=True)
class AdapterSection:
    """`adapter_config`: how every model is loaded."""

    adapter_name: str = "huggingface"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    model_kwargs: dict[str, Any] = field(default_factory=dict)
    tokenizer_kwargs: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class LimitsSection:
    """`limits`: what an attempt may take, and how many there are."""

    stub_timeout: str = "24h"
    max_attempts: int = 2
    lease: str = "180s"
    """How long a silent worker is believed to live; above the attribute caching of the shared filesystem."""

    def __post_init__(self) -> None:
        for name in ("stub_timeout", "lease"):
            try:
                seconds_of(getattr(self, name))
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from error
        if self.max_attempts < 1:
            raise ValueError("max_attempts must be at least 1")
        if self.lease_s < 5:
            raise ValueError("lease must be at least 5s")

    @property
    def stub_timeout_s(self) -> float:
        """Seconds an engine may spend on one attempt at one stub."""
        return seconds_of(self.stub_timeout)

    @property
    def lease_s(self) -> float:
        """Seconds."""
        return seconds_of(self.lease)


@dataclass(frozen=True)
class LocalSection:
    """`local`: the GPUs of this machine."""

    gpus: list[int] | Literal["all", "none"] | None = None

    def __post_init__(self) -> None:
        if isinstance(self.gpus, list) and (len(set(self.gpus)) != len(self.gpus) or min(self.gpus, default=-1) < 0):
            raise ValueError("gpus must be different ids, each at least 0, or all, or none")


@dataclass(frozen=True)
class Pattern:
    """Glob patterns that a stub must match in every key given."""

    model: str = "*"
    attention: str = "*"
    benchmark: str = "*"
    subset: str | int = "*"
