"""Typed values as JSON: types are checked and nothing is converted, NaN and infinities are refused."""

from __future__ import annotations

import dataclasses
import re
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import pydantic

from hpc_bench.files import from_json, open_regular, to_json

if TYPE_CHECKING:
    from hpc_bench.values import Json
else:
    Json = pydantic.JsonValue  # the same type, in the form that pydantic checks at run time

__all__ = ["FileName", "InnerPath", "Json", "Name", "dump_as", "parse_as", "read_as"]

T = TypeVar("T")
_MOST_BYTES = 255
"""In a file's name, on any usual filesystem."""
_HALF = re.compile("[\ud800-\udfff]")
_STAND_INS = 0xF0000 - 0xD800
"""From half of a surrogate pair to the character for private use that stands for it where none can be."""


def _check_inner(path: str) -> str:
    parts = PurePosixPath(path).parts
    if "\0" in path or any(part in ("/", "//", "..") or len(part.encode()) > _MOST_BYTES for part in parts):
        raise ValueError("is not the path of a file inside the execution")
    return path


def _check_name(name: str) -> str:
    if name in ("", ".", "..") or "/" in name:
        raise ValueError("is not the name of a file")
    return _check_inner(name)


Name = Annotated[str, pydantic.Field(min_length=1)]
InnerPath = Annotated[str, pydantic.AfterValidator(_check_inner)]
"""A path relative to the execution folder, which cannot lead out of it; or empty."""
FileName = Annotated[str, pydantic.AfterValidator(_check_name)]
"""The name of a file of some folder."""


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
    content = from_json(text)
    try:
        return _validated(cls, text)
    except ValueError:  # pydantic cannot read half of a surrogate pair
        plain = to_json(content, sort_keys=False)
        mended = _HALF.sub(lambda half: chr(ord(half[0]) + _STAND_INS), plain)
        if mended == plain:
            raise
    whole: T = _with_halves(_validated(cls, mended))
    return whole


def read_as(cls: type[T], path: Path) -> T:
    """The dataclass that stands in a JSON file; OSError if this is no regular file, else as `parse_as`."""
    with open_regular(path) as file:
        return parse_as(cls, file.read())


def _validated(cls: type[T], text: str | bytes) -> T:
    try:
        value: T = _validator(cls).validate_json(text, strict=True)  # type: ignore[arg-type] # a type is hashable
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
        unknown = first["type"] in ("unexpected_keyword_argument", "extra_forbidden")
        said = first["msg"].removeprefix("Value error, ")
        problem = "an unknown key, written by a newer hpc-bench" if unknown else said
        raise ValueError(f"{'.'.join(map(str, first['loc']))}: {problem}") from error
    return value


def _with_halves(value: Any) -> Any:
    """With the halves of surrogate pairs in the places of the characters that stand for them."""
    if isinstance(value, str):
        return re.sub("[\U000f0000-\U000f07ff]", lambda found: chr(ord(found[0]) - _STAND_INS), value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        given = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return dataclasses.replace(value, **{name: _with_halves(part) for name, part in given.items()})
    if isinstance(value, Mapping):
        return {_with_halves(key): _with_halves(part) for key, part in value.items()}
    return type(value)(map(_with_halves, value)) if isinstance(value, (list, tuple)) else value


def dump_as(cls: type[T], value: T) -> str:
    """The canonical line that `parse_as` reads; ValueError if the value holds NaN or an infinity."""
    return to_json(_validator(cls).dump_python(value, mode="json"))  # type: ignore[arg-type] # a type is hashable
