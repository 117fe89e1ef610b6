"""Makes the token ids of a sample's prompt, and says where the context ends in them, so that it can be read once."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from hpc_bench.adapters.base import AdapterError, kept_tokens
from hpc_bench.adapters.template import ChatTemplate, common_length
from hpc_bench.values import PromptForm, Sample, Truncation

__all__ = ["Prompt", "PromptKey", "Prompts", "prompt_key", "shared_length"]

PromptKey = tuple[str, str, str, bool, PromptForm]
"""All that a sample's prompt depends on."""


@dataclass(frozen=True)
class Prompt:
    """What a model is fed before the first new token."""

    ids: list[int]
    seam: int
    """The place of the first id that does not lie wholly in the context and what the chat template puts before it."""


def prompt_key(sample: Sample) -> PromptKey:
    """Equal for samples that have the same prompt."""
    return sample.context, sample.question, sample.answer_prefix, sample.chat, sample.form


def shared_length(prompts: Sequence[Prompt]) -> int:
    """How many ids all prompts begin with, never beyond the seam of any of them."""
    first = prompts[0].ids
    return min(min(prompt.seam, common_length(first, prompt.ids)) for prompt in prompts)


class Prompts:
    """The prompts of one tokenizer."""

    def __init__(self, tokenizer: Any, enable_thinking: bool | None = None) -> None:
        self._tokenizer = tokenizer
        self._template = ChatTemplate(tokenizer, enable_thinking)

    def encode(self, text: str) -> list[int]:
        """The ids of `text` alone, without special tokens around it."""
        return list(self._tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    def prompt(self, sample: Sample) -> Prompt:
        """The sample's prompt; AdapterError if the chat template cannot be used as the sweep asks."""
        inside, behind = self._asked(sample)
        if sample.form.encode == "parts":
            return self._in_parts(sample, inside, behind)
        if not self._is_chat(sample):
            return self._whole(sample.context + inside + behind, len(sample.context))
        text = self._template.render(sample.context + inside)
        return self._whole(text + behind, self._template.context_end(text, sample.context))

    def opened_thought(self, *, chat: bool) -> str:
        """The opening think tag with which the chat template ends, and the space behind it; empty if it does not."""
        return self._template.opened_thought if chat else ""

    def cut(self, sample: Sample, limit: int, truncation: Truncation) -> Sample:
        """The sample with a context that fits into `limit` tokens beside its question, answer prefix and the special
        tokens in front: a text again, since the chat template, which does not count, goes around what was kept.
        """
        asked = sample.question + sample.answer_prefix
        ids, seam = self._without_template(sample.context, asked, sample.form)
        front, back = kept_tokens(seam, len(ids) - seam, limit, truncation, len(self._first_ids))
        if front + back == seam:
            return sample
        kept = self._text(ids[:front]) + self._end_of_context(ids, seam, back, asked)
        return dataclasses.replace(sample, context=kept, cut_tokens=seam - front - back)

    def _end_of_context(self, ids: list[int], seam: int, back: int, asked: str) -> str:
        """The text of the last `back` ids of the context.

        Decoded together with what is asked, as THUDM/LongBench (LongBench/pred.py) decodes the prompt's last half, and
        parted from it again: a token may lie in both.
        """
        together = self._text(ids[seam - back :]) if back else ""
        if together.endswith(asked) and together:
            return together.removesuffix(asked)
        return self._text(ids[seam - back : seam])

    def _without_template(self, context: str, asked: str, form: PromptForm) -> tuple[list[int], int]:
        """The ids that `max_context_length` counts, special tokens left out, and the seam in them."""
        if form.encode == "parts":
            ids = self.encode(context)
            return ids + self.encode(asked), len(ids)
        return self._with_seam(context + asked, len(context))

    def _asked(self, sample: Sample) -> tuple[str, str]:
        """Question and answer prefix: what ends the user's message, and what stands behind the assistant's marker."""
        place = sample.form.answer_prefix
        if self._is_chat(sample) and sample.answer_prefix and self._template.thinks and place == "assistant":
            if sample.form.is_explicit:
                raise AdapterError(
                    "the model thinks before it answers, so the answer prefix cannot stand behind the assistant's "
                    "marker; leave out request_kwargs.answer_prefix, or set it to user"
                )
            place = "user"
        if place == "user":
            return sample.question + sample.answer_prefix, ""
        return sample.question, sample.answer_prefix

    def _is_chat(self, sample: Sample) -> bool:
        return sample.chat and self._template.exists

    def _in_parts(self, sample: Sample, inside: str, behind: str) -> Prompt:
        head, tail = self._template.frame if self._is_chat(sample) else ("", "")
        context = self._with_first_ids(self.encode(head + sample.context))
        return Prompt(context + self.encode(inside + tail + behind), len(context))

    def _whole(self, text: str, context_end: int) -> Prompt:
        """The prompt of a whole text, whose context ends at the character `context_end`."""
        ids, seam = self._with_seam(text, context_end)
        whole = self._with_first_ids(ids)
        return Prompt(whole, seam + len(whole) - len(ids))

    def _with_seam(self, text: str, context_end: int) -> tuple[list[int], int]:
        """The ids of a text, and the place of the first that does not lie wholly before a character of it."""
        if not self._tokenizer.is_fast:
            ids = self.encode(text)
            return ids, common_length(ids, self.encode(text[:context_end]))
        with _untrimmed_offsets(self._tokenizer):
            encoded = self._tokenizer(text, add_special_tokens=False, verbose=False, return_offsets_mapping=True)
        ends = (end for _, end in encoded["offset_mapping"])
        seam = next((place for place, end in enumerate(ends) if end > context_end), len(encoded["input_ids"]))
        return list(encoded["input_ids"]), seam

    def _with_first_ids(self, ids: list[int]) -> list[int]:
        first = self._first_ids
        return ids if ids[: len(first)] == first else first + ids

    def _text(self, ids: list[int]) -> str:
        return str(self._tokenizer.decode(ids, clean_up_tokenization_spaces=False)) if ids else ""

    @cached_property
    def _first_ids(self) -> list[int]:
        """What the tokenizer puts in front of any text, mostly BOS or nothing; what it puts behind (EOS) is not ours.

        Needed also behind a chat template, since some templates print BOS themselves and some leave it out.
        """
        bare = self.encode("a")
        full = list(self._tokenizer("a")["input_ids"])
        starts = (i for i in range(len(full)) if full[i : i + len(bare)] == bare)
        return full[: next(starts, 0)]


@contextmanager
def _untrimmed_offsets(tokenizer: Any) -> Iterator[None]:
    """Lets offsets cover the white space at the ends of tokens, too, which byte-level post-processors leave out.

    A post-processor has no other effect on a text without special tokens.
    """
    from tokenizers.processors import TemplateProcessing

    backend = tokenizer.backend_tokenizer
    before = backend.post_processor
    backend.post_processor = TemplateProcessing(single="$A", special_tokens=[])
    try:
        yield
    finally:
        backend.post_processor = before
