"""The contract of an adapter: how it counts and cuts, and that an answer depends on its own prompt only."""

from __future__ import annotations

import dataclasses
from typing import get_args

from hpc_bench.adapters.base import AdapterError, ModelAdapter
from hpc_bench.attention.base import AttentionConfig
from hpc_bench.attention.maskers.sink import Sink
from hpc_bench.plugin_checks.contract import require, require_json
from hpc_bench.values import Answer, Generation, ModelOptions, Sample, Truncation

__all__ = ["check_adapter"]

_LIMIT = 8
_SEAM = 2
"""Tokens that a cut text may have more, since its two parts can be tokenized differently once they are joined."""
_CONTEXT = " ".join(f"House {number} is painted {colour}." for number, colour in enumerate(["red", "blue", "grey"] * 8))
_FIRST = Sample("0", _CONTEXT, "\nWhich colour has house 4?\n", ("blue",), _LIMIT, answer_prefix="Answer:", chat=False)
_SECOND = dataclasses.replace(_FIRST, sample_id="1", question="\nWhich houses are red?\n", references=("0",))
_CHAT = dataclasses.replace(_FIRST, sample_id="2", chat=True)
_DENSE = AttentionConfig()
_KEEPS_ALL = AttentionConfig((Sink(1.0),))


def check_adapter(cls: type[ModelAdapter], options: ModelOptions) -> None:
    """Loads a model and checks the adapter against the contract of `ModelAdapter`; ContractError says what is violated.

    Choose a small model in float32: in 16 bits, attention that keeps everything may round to another token.
    """
    name = cls.__name__
    cls.check_options(options)
    device = cls.check_device(options)
    require(isinstance(device, str) and bool(device), f"{name}: check_device must name a device, not {device!r}")
    adapter = cls.load(options)
    _check_counting(adapter, name)
    for truncation in get_args(Truncation):
        _check_cut(adapter, truncation, f"{name}: cut ({truncation})")
    for sample in (_FIRST, _CHAT):
        _check_answers(adapter, sample, f"{name}: chat={sample.chat}")
    _check_keeping_everything(adapter, name)
    require_json(adapter.provenance(), f"{name}: provenance")
    memory = adapter.peak_memory_gb()
    require(memory is None or memory > 0, f"{name}: peak_memory_gb must be positive or None, not {memory}")


def _check_counting(adapter: ModelAdapter, name: str) -> None:
    empty, context = adapter.count_tokens(""), adapter.count_tokens(_CONTEXT)
    require(empty == 0, f"{name}: count_tokens counts {empty} tokens of an empty text; special tokens are left out")
    require(context > 0, f"{name}: count_tokens counts {context} tokens of a text of {len(_CONTEXT)} characters")


def _check_cut(adapter: ModelAdapter, truncation: Truncation, where: str) -> None:
    """What is kept of a context fits, and is the part that `truncation` names."""
    whole = adapter.prompt_tokens(_FIRST)
    untouched = adapter.cut(_FIRST, whole, truncation)
    require(untouched == _FIRST, f"{where}: a sample that fits must stay as it is")
    limit = whole - adapter.count_tokens(_CONTEXT) // 2
    cut = adapter.cut(_FIRST, limit, truncation)
    require(cut.cut_tokens > 0, f"{where}: cut_tokens must say how many tokens the context lost, not {cut.cut_tokens}")
    restored = dataclasses.replace(cut, context=_CONTEXT, cut_tokens=0)
    require(restored == _FIRST, f"{where}: nothing but context and cut_tokens may change")
    length = adapter.prompt_tokens(cut)
    require(length <= limit + _SEAM, f"{where}: the prompt has {length} tokens, and the limit is {limit}")
    words, kept = _CONTEXT.split(), cut.context.split()
    front, back = truncation in ("middle", "right"), truncation in ("middle", "left")
    require(not front or kept[:3] == words[:3], f"{where}: the beginning of the context must be kept")
    require(not back or kept[-3:] == words[-3:], f"{where}: the end of the context must be kept")
    require(adapter.cut(_FIRST, limit, truncation) == cut, f"{where}: cut must return the same at every call")


def _check_answers(adapter: ModelAdapter, sample: Sample, where: str) -> None:
    """A prefill is used by any number of answers, in any order, and does not change."""
    other = dataclasses.replace(_SECOND, chat=sample.chat)
    generation = Generation()
    prefill = adapter.prefill([sample, other], [_DENSE])
    first = adapter.answer(prefill, sample, _DENSE, generation)
    adapter.answer(prefill, other, _DENSE, generation)
    again = adapter.answer(prefill, sample, _DENSE, generation)
    fresh = adapter.prefill([sample], [_DENSE])
    alone = adapter.answer(fresh, sample, _DENSE, generation)
    _check_answer(adapter, sample, first, where)
    require(
        again.text == first.text,
        f"{where}: after another question, the same prefill gives the answer {again.text!r} instead of {first.text!r}",
    )
    require(
        alone.text == first.text,
        f"{where}: a prefill for it alone gives the answer {alone.text!r} instead of {first.text!r}",
    )
    short = adapter.answer(prefill, sample, _DENSE, Generation(max_new_tokens=1))
    require(short.tokens_out <= 1, f"{where}: the answer has {short.tokens_out} tokens, and max_new_tokens is 1")


def _check_answer(adapter: ModelAdapter, sample: Sample, answer: Answer, where: str) -> None:
    expected = adapter.prompt_tokens(sample)
    require(
        answer.tokens_in == expected,
        f"{where}: tokens_in is {answer.tokens_in}, but prompt_tokens counts {expected} tokens of the prompt",
    )
    require(
        0 <= answer.tokens_out <= _LIMIT,
        f"{where}: tokens_out is {answer.tokens_out}, and the sample's max_new_tokens {_LIMIT}",
    )
    require(answer.cut_tokens == sample.cut_tokens, f"{where}: cut_tokens of the answer must be the sample's")
    require(answer.density == 1.0, f"{where}: dense attention has density 1.0, not {answer.density}")
    require(answer.seconds >= 0 and answer.prefill_s >= 0, f"{where}: seconds and prefill_s cannot be negative")


def _check_keeping_everything(adapter: ModelAdapter, name: str) -> None:
    """Sparse attention that keeps every key equals dense attention, if the adapter has sparse attention."""
    try:
        adapter.check_attention(_KEEPS_ALL)
    except AdapterError:
        return
    prefill = adapter.prefill([_FIRST], [_DENSE, _KEEPS_ALL])
    dense, sparse = (adapter.answer(prefill, _FIRST, attention, Generation()) for attention in (_DENSE, _KEEPS_ALL))
    require(
        sparse.text == dense.text,
        f"{name}: sparse attention that keeps every key gives the answer {sparse.text!r} instead of {dense.text!r}",
    )
    require(sparse.density == 1.0, f"{name}: the density of attention that keeps every key is {sparse.density}, not 1")
