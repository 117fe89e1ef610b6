"""A tokenizer's chat template: its text around a user's message, the same on every day."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import cached_property
from typing import Any

from hpc_bench.adapters.base import AdapterError
from hpc_bench.benchmarks.scoring import START_OF_THINKING
from hpc_bench.values import PROMPT_CLOCK

__all__ = ["ChatTemplate", "common_length"]

_SEPARATOR = "hpcBenchContextAndQuestion"
_NOW = datetime.fromisoformat(PROMPT_CLOCK)
_DIRECTIVES = ("%-d", "%-m", "%-H", "%-I", "%-M", "%-S", *(f"%{letter}" for letter in "aAbBcdDeFhHIjmMpRSTuUwWxXyYZ"))
_STRFTIME_NOW = (
    "{%- macro strftime_now(format) -%}{%- set made = namespace(text=format) -%}"
    "{%- for directive, text in fixed_clock.items() -%}"
    "{%- set made.text = made.text | replace(directive, text) -%}"
    "{%- endfor -%}{{- made.text -}}{%- endmacro %}\n"
)
"""Stands before a template that calls `strftime_now`, in the place of the function that transformers gives it, which
reads the machine's clock. Variables would not do: transformers hands no functions to a template."""


class ChatTemplate:
    """The chat template of one tokenizer, if it has one."""

    def __init__(self, tokenizer: Any, enable_thinking: bool | None) -> None:
        self._tokenizer = tokenizer
        self._options: dict[str, Any] = {"date_string": _NOW.strftime("%d %b %Y"), "datetime": str(_NOW)}
        if enable_thinking is not None:
            self._options["enable_thinking"] = enable_thinking
        self._enable_thinking = enable_thinking

    @property
    def exists(self) -> bool:
        """Whether the tokenizer has one."""
        return bool(self._tokenizer.chat_template)

    @property
    def thinks(self) -> bool:
        """Whether an answer begins with a thought, for which an answer prefix would leave no room."""
        return bool(self._enable_thinking or self.opened_thought)

    @cached_property
    def frame(self) -> tuple[str, str]:
        """The template's text before the user's message and behind it, up to where the answer starts; AdapterError if
        the message is not in it exactly once.
        """
        if not self.exists:
            return "", ""
        head, *tails = self._render(_SEPARATOR).split(_SEPARATOR)
        if len(tails) != 1:
            raise AdapterError(
                f"the chat template repeats the user's message {len(tails)} times, so it cannot be split"
            )
        return head, tails[0]

    @cached_property
    def opened_thought(self) -> str:
        """The opening think tag with which the template ends, and the space behind it; empty if it does not."""
        _, tag, space = self.frame[1].rpartition(START_OF_THINKING)
        return tag + space if tag and not space.strip() else ""

    def render(self, message: str) -> str:
        """The prompt of a user's message, up to where the answer starts."""
        _ = self.frame  # refuses a template in which the context could not be found
        return self._render(message)

    def context_end(self, text: str, context: str) -> int:
        """Where the context ends in a rendered prompt: many templates trim the message that begins with it."""
        head = self.frame[0]
        for kept in (context, context.lstrip()):
            if text.startswith(head + kept):
                return len(head + kept)
        return common_length(text, head + context.lstrip())

    def _render(self, message: str) -> str:
        try:
            return str(
                self._tokenizer.apply_chat_template(
                    [{"role": "user", "content": message}],
                    tokenize=False,
                    add_generation_prompt=True,
                    **self._clock,
                    **self._options,
                )
            )
        except Exception as error:  # a template is a program: it may raise anything
            raise AdapterError(f"the chat template cannot be rendered: {error}") from error

    @cached_property
    def _clock(self) -> dict[str, Any]:
        """The template with a clock that stands still, where it calls for one."""
        template = self._tokenizer.get_chat_template()
        if "strftime_now" not in template:
            return {}
        fixed = {directive: _NOW.strftime(directive) for directive in _DIRECTIVES}
        return {"chat_template": _STRFTIME_NOW + template, "fixed_clock": {**fixed, "%%": "%"}}


def common_length(first: Sequence[Any], second: Sequence[Any]) -> int:
    """How many items two sequences begin with alike."""
    differing = (place for place, (one, other) in enumerate(zip(first, second, strict=False)) if one != other)
    return next(differing, min(len(first), len(second)))
