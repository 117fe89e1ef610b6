"""Reads YAML into plain data, and refuses values that are not what they look like, such as 0512 and no."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import yaml

from hpc_bench.errors import SweepError
from hpc_bench.execution.credentials import is_secret_key

__all__ = ["UnclearError", "load_yaml"]

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml's parser is many times faster, where PyYAML was built with it; PyYAML's own explains errors better."""
_MOST_SHOWN = 60
_MOST_DIGITS = 20
"""Of whole numbers that may fit into 64 bits; Python refuses to convert very long ones."""
_NULLS = ("", "~", "null", "Null", "NULL")
_SWITCHES = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_WHOLE = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_FRACTION = re.compile(r"([-+]?(0|[1-9][0-9]*)\.[0-9]*|\.[0-9]+)([eE][-+][0-9]+)?")
"""What YAML 1.1 and 1.2 read alike."""
_UNCLEAR = tuple(
    (re.compile(pattern), what, remedy)
    for pattern, what, remedy in (
        (r"[-+]?0[0-9]+(\.[0-9]*)?", "a number with a leading zero", "write the number without the zero"),
        (
            r"[-+]?0(b[01_]+|o[0-7_]+|x[0-9a-fA-F_]+)",
            "a number to another base than 10",
            "write the number to the base of 10",
        ),
        (
            r"(?=.*_)[-+]?([0-9][0-9_]*(\.[0-9_]*)?|\.[0-9][0-9_]*)([eE][-+]?[0-9]+)?",
            "a number with underscores",
            "write the number without them",
        ),
        (
            r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?",
            "a number to some readers of YAML and text to others",
            "write the number as 1000.0, -0.5 or 1.0e-6",
        ),
        (r"[-+]?\.(inf|Inf|INF|nan|NaN|NAN)", "no finite number", "write a finite one"),
        (
            r"[0-9]{4}-[0-9]{2}-[0-9]{2}|[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([Tt]|\s+)[0-9]{1,2}:[0-9:.]+.*",
            "a date to some readers of YAML and text to others",
            "",
        ),
        (
            r"yes|Yes|YES|no|No|NO|on|On|ON|off|Off|OFF|[yYnN]",
            "a switch to some readers of YAML and text to others",
            "write true or false",
        ),
    )
)
"""Pattern, what it is, and what to write where no text is meant; empty where it is always text."""
_KEYS_OF_TEXT = ("y", "Y", "n", "N")
"""Names of parameters, which the readers of YAML 1.1 that are in use leave alone."""


class UnclearError(SweepError):
    """A value or a key stands without the quotes that it needs."""


def load_yaml(source: bytes | str) -> Any:
    """The one document in `source`, of mappings whose keys are text, lists, and plain values; None if there is none.

    What stands without quotes is a number, a switch or nothing only where YAML 1.1 and 1.2 read it alike, so that no
    value is silently another than the one written. A clock such as 4:00:00 is text. SweepError names path and line.
    """
    try:
        return _document(yaml.parse(source, Loader=_LOADER))
    except (yaml.YAMLError, ArithmeticError, RecursionError, ValueError):
        with _explained():
            return _document(yaml.parse(source, Loader=yaml.SafeLoader))


def _document(events: Iterator[Any]) -> Any:
    next(events)  # the beginning of the stream
    if isinstance(next(events), yaml.StreamEndEvent):
        return None
    value = _value(next(events), events, ())
    next(events)  # the end of the document
    more = next(events)
    if not isinstance(more, yaml.StreamEndEvent):
        raise _refused(more, (), "not valid YAML: a second document; a file holds one")
    return value


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise SweepError(f"{line}not valid YAML: {error.problem or error.context}") from error
    except (yaml.YAMLError, ArithmeticError, RecursionError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise SweepError(f"not valid YAML: {reason}") from error


def _refused(event: Any, path: tuple[str, ...], message: str, kind: type[SweepError] = SweepError) -> SweepError:
    return kind(f"line {event.start_mark.line + 1}: {message}", *path)


def _value(event: Any, events: Iterator[Any], path: tuple[str, ...]) -> Any:
    if isinstance(event, yaml.AliasEvent):
        what = f"aliases such as *{event.anchor} are not supported"  # few of them can make a file of any size
        raise _refused(event, path, f"{what}; write the value out, or put it in quotes if it is text")
    if event.tag:
        tag = event.tag.replace("tag:yaml.org,2002:", "!!", 1)
        raise _refused(event, path, f"tags such as {_short(tag)} are not supported; put text in quotes")
    if isinstance(event, yaml.SequenceStartEvent):
        return _list(events, path)
    if isinstance(event, yaml.MappingStartEvent):
        return _mapping(events, path)
    return _scalar(event, path)


def _list(events: Iterator[Any], path: tuple[str, ...]) -> list[Any]:
    values: list[Any] = []
    while not isinstance(event := next(events), yaml.SequenceEndEvent):
        values.append(_value(event, events, (*path, str(len(values)))))
    return values


def _mapping(events: Iterator[Any], path: tuple[str, ...]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    while not isinstance(event := next(events), yaml.MappingEndEvent):
        key = _key(event, path)
        if key in values:
            raise _refused(event, path, f"duplicate key {key!r}")
        values[key] = _value(next(events), events, (*path, _short(key)))
    return values


def _key(event: Any, path: tuple[str, ...]) -> str:
    if not isinstance(event, yaml.ScalarEvent) or event.tag:
        raise _refused(event, path, "not valid YAML: a key must be text, without a tag")
    text = str(event.value)
    if not event.implicit[0] or text in _KEYS_OF_TEXT:
        return text
    if text == "<<":
        raise _refused(event, path, "merge keys (<<) are not supported; write the keys out")
    if _unclear(text) or not isinstance(_plain(text), str):
        shown = _short(text) or "(empty)"
        raise _refused(event, path, f'key {shown} must be text; put it in quotes: "{_short(text)}"', UnclearError)
    return text


def _scalar(event: yaml.ScalarEvent, path: tuple[str, ...]) -> Any:
    text = str(event.value)
    if not event.implicit[0]:  # in quotes, or a block of text
        return text
    if found := _unclear(text):
        what, number = found
        shown = "what stands there" if any(map(is_secret_key, path)) else _short(text)
        remedy = f'put it in quotes, "{shown}"' + (f", if it is text; otherwise {number}" if number else "")
        raise _refused(event, path, f"{shown} is {what}; {remedy}", UnclearError)
    return _plain(text)


def _unclear(text: str) -> tuple[str, str] | None:
    """What a text without quotes might be, and what to write instead; None if it is what it looks like."""
    if _WHOLE.fullmatch(text):
        fits = len(text) <= _MOST_DIGITS and abs(int(text)) < 2**63
        return None if fits else ("a number of more than 64 bits", "write a smaller one")
    if _FRACTION.fullmatch(text):
        return None if math.isfinite(float(text)) else ("a number beyond all floats", "write a smaller one")
    return next(((what, remedy) for pattern, what, remedy in _UNCLEAR if pattern.fullmatch(text)), None)


def _plain(text: str) -> str | float | bool | None:
    """The value of a text without quotes that is what it looks like."""
    if text in _NULLS:
        return None
    if text in _SWITCHES:
        return _SWITCHES[text]
    if _WHOLE.fullmatch(text):
        return int(text)
    return float(text) if _FRACTION.fullmatch(text) else text


def _short(text: str) -> str:
    """A text for a message of one line."""
    short = text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}..."
    return short if short.isprintable() else repr(short)
