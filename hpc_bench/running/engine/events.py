"""What goes through the pipes between a worker and its engine: work in, events out; one dataclass each, for both ends.

- Work: a bundle to answer, or what is left of it
- Loaded, LoadFailed, Broken: how loading the model went
- Prefilling, Answering, Answered, Progress, Scoring: what the engine is at
- Complete, Failed, Hindered: how one stub ended
- DataFailed, DataUnavailable: why no stub of the bundle can be answered
- Outdated, Retired: why the engine gives its work back, for no fault of the stubs
- BundleDone: nothing of the bundle is left
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import TypeAlias

from hpc_bench.execution.attempts.claims import Claim
from hpc_bench.execution.schema import parse_as
from hpc_bench.files import from_json, to_json

__all__ = [
    "Answered",
    "Answering",
    "Broken",
    "BundleDone",
    "Cause",
    "Complete",
    "DataFailed",
    "DataUnavailable",
    "Event",
    "Failed",
    "Hindered",
    "LoadFailed",
    "Loaded",
    "Outdated",
    "Prefilling",
    "Progress",
    "Retired",
    "Scoring",
    "Work",
    "read_event",
    "write_event",
]


@dataclass(frozen=True)
class Work:
    """The claims of one bundle."""

    claims: tuple[Claim, ...]
    log: str
    """The engine's log, relative to the execution folder."""


@dataclass(frozen=True)
class Cause:
    """What went wrong, as a failure records it."""

    error: str
    """The class of the error."""
    message: str
    traceback: str = ""

    def __str__(self) -> str:
        """As the engine's log shows it."""
        return f"{self.error}: {self.message}\n{self.traceback}".rstrip()


@dataclass(frozen=True)
class Loaded:
    """The model is loaded."""

    seconds: float


@dataclass(frozen=True)
class LoadFailed:
    """The model cannot be loaded; the engine has ended."""

    cause: Cause


@dataclass(frozen=True)
class Broken:
    """The device does not work; the engine has ended."""

    cause: Cause


@dataclass(frozen=True)
class Prefilling:
    """A context is being read, for all stubs of the bundle."""


@dataclass(frozen=True)
class Answering:
    """A sample is being answered under a stub's config."""

    stub: str


@dataclass(frozen=True)
class Answered:
    """A sample was answered, and its answer is on disk; `done`: how many the stub has now."""

    stub: str
    done: int


@dataclass(frozen=True)
class Progress:
    """How many of its samples a stub has when the bundle is opened."""

    stub: str
    done: int
    total: int


@dataclass(frozen=True)
class Scoring:
    """A stub's answers are complete and are being scored."""

    stub: str


@dataclass(frozen=True)
class Complete:
    """A stub's result is published."""

    stub: str


@dataclass(frozen=True)
class Failed:
    """One stub failed."""

    stub: str
    cause: Cause


@dataclass(frozen=True)
class Hindered:
    """One stub, or all of the bundle (""), met an error that passes, such as a full disk: it is given back."""

    stub: str
    cause: Cause


@dataclass(frozen=True)
class DataFailed:
    """The samples cannot be made with this model's tokenizer."""

    cause: Cause


@dataclass(frozen=True)
class DataUnavailable:
    """The data is missing or invalid, whatever the model; `whole`: for every subset of the benchmark."""

    cause: Cause
    whole: bool


@dataclass(frozen=True)
class Outdated:
    """The manifest asks for another configuration than the one that was claimed."""


@dataclass(frozen=True)
class Retired:
    """The engine cannot compute any more, and has ended."""

    reason: str


@dataclass(frozen=True)
class BundleDone:
    """Every claim of the bundle has a result or an event that says why not."""


Event: TypeAlias = (
    Loaded
    | LoadFailed
    | Broken
    | Prefilling
    | Answering
    | Answered
    | Progress
    | Scoring
    | Complete
    | Failed
    | Hindered
    | DataFailed
    | DataUnavailable
    | Outdated
    | Retired
    | BundleDone
)
_CLASSES: dict[str, type[Event]] = {cls.__name__: cls for cls in Event.__args__}


def write_event(event: Event) -> str:
    """The line that stands for an event."""
    return to_json({"event": type(event).__name__, **dataclasses.asdict(event)})


def read_event(line: str | bytes) -> Event:
    """The event that a line stands for; ValueError if it stands for none."""
    data = from_json(line)
    name = data.pop("event", None) if isinstance(data, dict) else None
    cls = _CLASSES.get(name) if isinstance(name, str) else None
    if cls is None:
        raise ValueError(f"not an event: {line[:200]!r}")
    return parse_as(cls, json.dumps(data))
