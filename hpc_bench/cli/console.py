"""What every command prints goes through here: no text from a model, a data set or a file steers the terminal."""

from __future__ import annotations

import json
import logging
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType, TracebackType
from typing import Any, Literal

import click
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from hpc_bench.execution.credentials import redact

__all__ = [
    "echo",
    "echo_json",
    "echo_problem",
    "guard_standard_error",
    "harmless_usage_errors",
    "make_console",
    "visible",
]

_WIDE = 160
_CONTROLS = (*range(0x20), *range(0x7F, 0xA0))
_TURNS = (0x2028, 0x2029, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
"""Breaks of lines and paragraphs, and what turns the direction of a text."""
_VISIBLE: Mapping[int, str] = MappingProxyType(
    {
        **{code: f"\\x{code:02x}" for code in _CONTROLS if chr(code) not in "\n\t"},
        **{code: f"\\u{code:04x}" for code in _TURNS},
    }
)


def visible(text: str) -> str:
    """The text with an escape in the place of each character that would steer a terminal."""
    return text.translate(_VISIBLE)


def echo(text: object, *, err: bool = False, nl: bool = True) -> None:
    """Prints a text."""
    click.echo(visible(str(text)), err=err, nl=nl)


def echo_json(value: object) -> None:
    """Prints a value for programs, which get every text as it is."""
    click.echo(json.dumps(value).replace("\x7f", "\\u007f"))


def echo_problem(kind: Literal["Error", "Warning"], message: object) -> None:
    """Prints what is wrong on one line, without secrets that it may quote."""
    echo(f"{kind}: {redact(' '.join(str(message).split()))}", err=True)


@contextmanager
def harmless_usage_errors() -> Iterator[None]:
    """Has click's own complaints about a command line, which it prints itself, quote nothing that does harm."""
    try:
        yield
    except click.ClickException as error:
        error.message = visible(redact(error.message))  # type: ignore[misc] # click's own place for it
        raise


def guard_standard_error() -> None:
    """Has what Python itself prints, warnings of the log and tracebacks, do no harm either."""
    if logging.lastResort:
        logging.lastResort.setFormatter(_HarmlessFormatter())
    sys.excepthook = _print_traceback


class _HarmlessFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return visible(redact(super().format(record)))


def _print_traceback(_kind: type[BaseException], error: BaseException, _trace: TracebackType | None) -> None:
    echo(redact("".join(traceback.format_exception(error))), err=True, nl=False)


class _HarmlessConsole(Console):
    """Text is made visible before it is measured, so that tables stay aligned, and whatever is left when drawn."""

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(visible(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=visible(segment.text))


def make_console(*, stderr: bool = False) -> Console:
    """Standard output or standard error; wide when it is not a terminal, so that a log keeps whole lines."""
    console = _HarmlessConsole(stderr=stderr, highlight=False, markup=False, emoji=False, soft_wrap=False)
    if not console.is_terminal:
        console.width = max(console.width, _WIDE)
    return console
