"""Typed values as JSON: types are checked and nothing is converted, NaN and infinities are refused."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

import pydantic

from hpc_bench.files import from_json, to_json

if TYPE_CHECKING:
    from hpc_bench.values import Json
else:
    Json = pydantic.JsonValue  # the same type, in the form that pydantic checks at run time

__all__ = ["Json", "dump_as", "parse_as"]

T = TypeVar("T")


@cache
def _validator(cls: Any) -> pydantic.TypeAdapter[Any]:
    with _interrupts_held_back():
        return pydantic.TypeAdapter(cls)


@contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """Until the end, since pydantic's core swallows a KeyboardInterrupt; other threads than the main one get none."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    held: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, lambda came, _frame: held.append(came)) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for came in held:
            signal.raise_signal(came)


def parse_as(cls: type[T], text: str | bytes) -> T:
    """The dataclass that a JSON text stands for; ValueError names the first field that is wrong."""
    from_json(text)
    try:
        value: T = _validator(cls).validate_json(text, strict=True)  # type: ignore[arg-type] # a type is hashable
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
        unknown = first["type"] in ("unexpected_keyword_argument", "extra_forbidden")
        problem = "an unknown key, written by a newer hpc-bench" if unknown else first["msg"]
        raise ValueError(f"{'.'.join(map(str, first['loc']))}: {problem}") from error
    return value


def dump_as(cls: type[T], value: T) -> str:
    """The canonical line that `parse_as` reads; ValueError if the value holds NaN or an infinity."""
    return to_json(_validator(cls).dump_python(value, mode="json"))  # type: ignore[arg-type] # a type is hashable
