"""Picks an answer's tokens from logits, one by one, and knows when the answer is over."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from hpc_bench.adapters.generation_config import settings_of
from hpc_bench.adapters.logits import AnswerBounds, make_processors
from hpc_bench.values import Generation, Sample

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Decoder", "Forward", "eos_ids"]

Forward = Callable[[list[int]], "Tensor"]
"""Feeds ids behind what was fed before; the float32 logits of the last position, [1, vocabulary]."""


def eos_ids(model: Any, tokenizer: Any) -> frozenset[int]:
    """All ids that end an answer: the model's own, of which those with turn markers have several, and the tokenizer's,
    also where the model's generation_config leaves that out.
    """
    generation_config = getattr(model, "generation_config", None)
    configured = getattr(generation_config, "eos_token_id", None)
    listed = configured if isinstance(configured, list) else [configured]
    return frozenset(token for token in [*listed, tokenizer.eos_token_id] if token is not None)


class Decoder:
    """The decoding of one answer."""

    def __init__(
        self,
        tokenizer: Any,
        eos: frozenset[int],
        sample: Sample,
        generation: Generation,
        own: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        self._tokenizer = tokenizer
        self._eos = eos
        self._settings = settings_of(generation, own)
        self._limit = generation.limit(sample.max_new_tokens)
        self._min_new_tokens = max(self._settings.get("min_new_tokens", 0), sample.min_new_tokens)
        self._stops = tuple(stop for stop in (*self._settings["stop_strings"], *sample.stop_strings) if stop)
        self._stop_ids = self._ids_of(sample.stop_strings) if sample.min_new_tokens else frozenset()
        # A token is at least a quarter of a character (one byte of four).
        self._stop_window = 4 * max(map(len, self._stops), default=0) + 8
        samples = self._settings.get("do_sample")
        self._draw = _seeded_draw(generation.seed, sample.sample_id) if samples else None

    def decode(self, forward: Forward, context: list[int], question: list[int]) -> list[int]:
        """The answer's token ids, the EOS included if there was one; `context` has been read, `question` has not."""
        import torch

        answer: list[int] = []
        fed, processors = question, None
        while not self._is_over(answer):
            scores = forward(fed)
            if processors is None:
                processors = self._processors(len(context) + len(question), scores.device)
            if processors:
                prompt = torch.tensor([context + question + answer], device=scores.device)
                scores = processors(prompt, scores)
            answer.append(int(scores.argmax()) if self._draw is None else self._draw(scores))
            fed = answer[-1:]
        return answer

    def text(self, answer: list[int]) -> str:
        """The text of an answer, without EOS, up to the first stop string."""
        ids = answer[:-1] if answer and answer[-1] in self._eos else answer
        text = self._text_of(ids)
        end = self._stop_position(text, len(self._text_of(ids[: self._min_new_tokens])))
        return text if end is None else text[:end]

    def _is_over(self, answer: list[int]) -> bool:
        if not answer:
            return False
        if len(answer) >= self._limit or answer[-1] in self._eos:
            return True
        if not self._stops:
            return False
        # The end alone first, since a stop string can only have been completed by the last token.
        ending = self._text_of(answer[-self._stop_window :])
        if not any(stop in ending for stop in self._stops):
            return False
        required = len(self._text_of(answer[: self._min_new_tokens]))
        return self._stop_position(self._text_of(answer), required) is not None

    def _stop_position(self, text: str, required: int) -> int | None:
        """Where the first stop string starts that ends behind the `required` characters of min_new_tokens."""
        found = (text.find(stop, max(0, required - len(stop) + 1) if required else 0) for stop in self._stops)
        return min((position for position in found if position >= 0), default=None)

    def _text_of(self, ids: list[int]) -> str:
        return str(self._tokenizer.decode(ids, skip_special_tokens=True)) if ids else ""

    def _ids_of(self, stops: tuple[str, ...]) -> frozenset[int]:
        """The tokens that are a stop string; where tokens are required first, they are not chosen, as EOS is not."""
        last = [self._tokenizer(stop, add_special_tokens=False)["input_ids"][-1:] for stop in stops]
        return frozenset(ids[0] for ids, stop in zip(last, stops, strict=True) if self._text_of(ids) == stop)

    def _processors(self, prompt_length: int, device: Any) -> Any:
        eos, ends = sorted(self._eos), sorted(self._eos | self._stop_ids)
        bounds = AnswerBounds(prompt_length, self._limit, eos, ends, device)
        return make_processors({**self._settings, "min_new_tokens": self._min_new_tokens}, bounds)


def _seeded_draw(seed: int, sample_id: str) -> Callable[[Tensor], int]:
    """Draws tokens from a stream of the sample's own, so that neither order nor restarts change an answer.

    On the CPU, whose streams are the same on every machine, unlike a GPU's.
    """
    import torch

    digest = hashlib.sha256(f"{seed} {sample_id}".encode()).digest()
    stream = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
    return lambda scores: int(torch.multinomial(scores.softmax(-1).cpu(), 1, generator=stream))
