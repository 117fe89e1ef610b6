"""transformers' own logits processors for the settings of an answer, in the order in which `generate` applies them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["AnswerBounds", "make_processors"]


@dataclass(frozen=True)
class AnswerBounds:
    """Where an answer begins, and how it ends."""

    prompt_length: int
    """Tokens."""
    limit: int
    """New tokens at most."""
    eos: Sequence[int]
    min_ends: Sequence[int]
    """What cannot end the answer before min_new_tokens: EOS, and a sample's stop strings of one token."""
    device: Any


def make_processors(settings: Mapping[str, Any], bounds: AnswerBounds) -> Any:
    """A LogitsProcessorList (GenerationMixin._get_logits_processor); empty for plain greedy decoding."""
    from transformers import LogitsProcessorList

    factories = _greedy(bounds)
    if settings.get("do_sample"):
        factories |= _sampling(bounds)
    chosen = [factories[name](settings[name]) for name in factories if settings.get(name) not in (None, False, [], {})]
    return LogitsProcessorList(made for made in chosen if made is not None)


def _greedy(bounds: AnswerBounds) -> dict[str, Callable[[Any], Any]]:
    from transformers.generation import logits_process as lp

    length, device, eos, ends = bounds.prompt_length, bounds.device, list(bounds.eos), list(bounds.min_ends)
    return {
        "sequence_bias": lambda value: lp.SequenceBiasLogitsProcessor(sequence_bias=value),
        "repetition_penalty": lambda value: lp.RepetitionPenaltyLogitsProcessor(float(value)),
        "no_repeat_ngram_size": lp.NoRepeatNGramLogitsProcessor,
        "bad_words_ids": lambda value: lp.NoBadWordsLogitsProcessor(value, eos or None),
        "min_length": lambda value: lp.MinLengthLogitsProcessor(value, eos, device) if eos else None,
        "min_new_tokens": lambda value: (
            lp.MinNewTokensLengthLogitsProcessor(length, value, ends, device) if value and ends else None
        ),
        "forced_bos_token_id": lp.ForcedBOSTokenLogitsProcessor,
        "forced_eos_token_id": lambda value: lp.ForcedEOSTokenLogitsProcessor(length + bounds.limit, value, device),
        "remove_invalid_values": lambda _: lp.InfNanRemoveLogitsProcessor(),
        "exponential_decay_length_penalty": lambda value: lp.ExponentialDecayLengthPenalty(tuple(value), eos, length),
        "suppress_tokens": lambda value: lp.SuppressTokensLogitsProcessor(value, device),
        "begin_suppress_tokens": lambda value: lp.SuppressTokensAtBeginLogitsProcessor(value, length, device),
    }


def _sampling(bounds: AnswerBounds) -> dict[str, Callable[[Any], Any]]:
    from transformers.generation import logits_process as lp

    return {
        "temperature": lambda value: lp.TemperatureLogitsWarper(float(value)),
        "top_h": lambda value: lp.TopHLogitsWarper(float(value)),
        "top_k": lambda value: lp.TopKLogitsWarper(value) if value else None,
        "top_p": lambda value: lp.TopPLogitsWarper(float(value)),
        "min_p": lambda value: lp.MinPLogitsWarper(float(value)),
        "typical_p": lambda value: lp.TypicalLogitsWarper(float(value)),
        "epsilon_cutoff": lambda value: lp.EpsilonLogitsWarper(float(value)),
        "eta_cutoff": lambda value: lp.EtaLogitsWarper(float(value), device=bounds.device),
        "renormalize_logits": lambda _: lp.LogitNormalization(),
    }
