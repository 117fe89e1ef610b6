"""A slot: the place of one worker at a time, the n-th of a submission."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated

import pydantic

__all__ = ["Slot", "SlotName"]


_INDEX = re.compile(r"0|[1-9][0-9]{0,8}")


@dataclass(frozen=True, order=True)
class Slot:
    """The `index`-th slot of a submission."""

    submission: str
    index: int

    def __str__(self) -> str:
        return f"{self.submission}-{self.index}"

    @classmethod
    def parse(cls, name: str) -> Slot:
        """The slot of a name; ValueError if it is none."""
        submission, _, index = name.rpartition("-")
        if not submission or not _INDEX.fullmatch(index):
            raise ValueError(f"{name!r} is not the name of a slot")
        return cls(submission, int(index))


def _parse(value: object) -> Slot:
    return value if isinstance(value, Slot) else Slot.parse(str(value))


SlotName = Annotated[Slot, pydantic.PlainValidator(_parse), pydantic.PlainSerializer(str)]
"""A slot that stands in JSON under its name."""
