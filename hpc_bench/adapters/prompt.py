"""Makes token ids of a prompt in two parts, context and question, so that the context can be read once."""

from __future__ import annotations

import dataclasses
from functools import cached_property
from typing import Any

from hpc_bench.adapters.base import AdapterError, kept_tokens
from hpc_bench.benchmarks.scoring import START_OF_THINKING
from hpc_bench.values import Sample, Truncation

__all__ = ["Prompts"]

_SEPARATOR = "hpcBenchContextAndQuestion"
# Templates that print today's date would make a sweep's prompts change overnight; this is Llama 3.1's own default.
_DATE = "26 Jul 2024"


class Prompts:
    """The prompts of one tokenizer."""

    def __init__(self, tokenizer: Any, enable_thinking: bool | None = None) -> None:
        self._tokenizer = tokenizer
        self._enable_thinking = enable_thinking
        self._template_options = {} if enable_thinking is None else {"enable_thinking": enable_thinking}

    def encode(self, text: str) -> list[int]:
        """The ids of `text` alone, without special tokens around it."""
        return list(self._tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    def context_ids(self, context: str, *, chat: bool) -> list[int]:
        """The ids of the prompt up to the end of the context."""
        head = self._frame[0] if chat else ""
        ids = self.encode(head + context)
        first = self._first_ids
        return ids if ids[: len(first)] == first else first + ids

    def question_ids(self, sample: Sample, *, chat: bool) -> list[int]:
        """The ids of the prompt from the question to the answer prefix, or to the turn marker where a model is to think
        first: it would not, or would begin its thought with the prefix. The prefix ends the user's message then, as in
        THUDM/LongBench (LongBench/config/dataset2prompt.json) and bigai-nlco/LooGLE (config/task2prompt.json).
        """
        tail = self._frame[1] if chat else ""
        if self._enable_thinking or self.opened_thought(chat=chat):
            return self.encode(sample.question + sample.answer_prefix + tail)
        return self.encode(sample.question + tail + sample.answer_prefix)

    def opened_thought(self, *, chat: bool) -> str:
        """The opening think tag with which the chat template ends, and the space behind it; empty if it does not."""
        _, tag, space = self._frame[1].rpartition(START_OF_THINKING) if chat else ("", "", "")
        return tag + space if tag and not space.strip() else ""

    def cut(self, sample: Sample, limit: int, truncation: Truncation) -> Sample:
        """The sample with a context that fits into `limit` tokens beside its question, answer prefix and the special
        tokens in front: a text again, since the chat template, which does not count, goes around what was kept.
        """
        ids = self.encode(sample.context)
        behind = len(self.encode(sample.question + sample.answer_prefix))
        front, back = kept_tokens(len(ids), behind, limit, truncation, len(self._first_ids))
        if front + back == len(ids):
            return sample
        parts = ids[:front], ids[len(ids) - back :]
        texts = (self._tokenizer.decode(part, clean_up_tokenization_spaces=False) for part in parts if part)
        return dataclasses.replace(sample, context="".join(texts), cut_tokens=len(ids) - front - back)

    @cached_property
    def _first_ids(self) -> list[int]:
        """What the tokenizer puts in front of any text, mostly BOS or nothing; what it puts behind (EOS) is not ours.

        Needed also behind a chat template, since some templates print BOS themselves and some leave it out.
        """
        bare = self.encode("a")
        full = list(self._tokenizer("a")["input_ids"])
        starts = (i for i in range(len(full)) if full[i : i + len(bare)] == bare)
        return full[: next(starts, 0)]

    @cached_property
    def _frame(self) -> tuple[str, str]:
        """The chat template's text before the user's message and behind it, up to where the answer starts."""
        if not self._tokenizer.chat_template:
            return "", ""
        message = [{"role": "user", "content": _SEPARATOR}]
        try:
            text = self._tokenizer.apply_chat_template(
                message, tokenize=False, add_generation_prompt=True, date_string=_DATE, **self._template_options
            )
        except Exception as error:  # a template is a program: it may raise anything
            raise AdapterError(f"the chat template cannot be rendered: {error}") from error
        head, *tails = text.split(_SEPARATOR)
        if len(tails) != 1:
            raise AdapterError(
                f"the chat template repeats the user's message {len(tails)} times, so it cannot be split"
            )
        return head, tails[0]
