"""Proof, on a real prompt, that nothing is lost between a model and the maskers: masks, cache, heads, scaling."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hpc_bench.adapters.base import AdapterError
from hpc_bench.adapters.sparse.attention_interface import NAME
from hpc_bench.adapters.sparse.passes import Passes, fork_cache
from hpc_bench.adapters.sparse.state import SparseState
from hpc_bench.attention.base import Chain
from hpc_bench.attention.maskers.h2o import H2O
from hpc_bench.attention.maskers.sink import Sink
from hpc_bench.attention.maskers.snapkv import SnapKV

__all__ = ["check_attention_path"]

_CONTEXT, _QUESTION, _LONGEST = 448, 64, 8192
"""Tokens of the prompt that are asked, since a wrong mask shows on short prompts too; beyond a sliding window, though,
as far as that is not too long."""
_TOLERANCE = {torch.float64: 1e-5, torch.float32: 1e-3}
_ROUGH = 0.1
"""Relative difference of logits: float noise is far below, a missing or non-causal mask far above."""
_CHAINS: dict[str, Chain] = {
    "dense": (),
    "sparse attention that keeps every key": (Sink(1.0),),
    "h2o that keeps every key": (H2O(heavy=1.0, recent=1.0),),
    "snapkv that keeps every key": (SnapKV(keep=1.0),),
}
"""Chains whose logits must be the model's own; the last two learn from the prefill."""


def check_attention_path(passes: Passes, context: Sequence[int], question: Sequence[int]) -> None:
    """AdapterError if the logits of a prompt differ between one pass under the model's own attention and a prefill
    with a question behind it, under the model's own attention and under ours; the model was loaded with ours.
    """
    ids = [*context[: max(_CONTEXT, _reach(passes.model))], *question[:_QUESTION]]
    behind = min(len(question), _QUESTION, len(ids) - 1)
    if behind < 1:
        return
    with _own_attention(passes.model):
        prompt = _Prompt(ids[:-behind], ids[-behind:], passes.feed(passes.new_cache(), ids, last=behind))
        _check_cache(passes, prompt)
    for name, chain in _CHAINS.items():
        difference = prompt.difference(_logits_under(chain, passes, prompt))
        if not difference <= _tolerance(passes.model):
            raise AdapterError(
                f"{type(passes.model).__name__}: {name} gives other logits than the model's own attention (they differ "
                f"by {difference:.2g} of their size), so no result of this model could be trusted"
            )


@dataclass(frozen=True)
class _Prompt:
    context: Sequence[int]
    question: Sequence[int]
    expected: Tensor
    """The question's logits, [1, question, vocabulary]"""

    def difference(self, logits: Tensor) -> float:
        """Relative to their size."""
        return float((logits - self.expected).norm() / self.expected.norm().clamp(min=1e-12))


def _check_cache(passes: Passes, prompt: _Prompt) -> None:
    """AdapterError if transformers itself cannot go on from a prefill, or not more than once."""
    cache = passes.new_cache()
    passes.feed(cache, prompt.context)
    for place in ("behind a cache", "behind the same cache for the second time"):
        difference = prompt.difference(passes.feed(fork_cache(cache), prompt.question, last=len(prompt.question)))
        if not difference <= _tolerance(passes.model):
            raise AdapterError(
                f"{type(passes.model).__name__}: with transformers' own attention, too, a question {place} has other "
                f"logits than in one pass over the whole prompt (they differ by {difference:.2g} of their size), so "
                "that the prefill of this model cannot be shared"
            )


def _logits_under(chain: Chain, passes: Passes, prompt: _Prompt) -> Tensor:
    """As prompts are really asked: a dense prefill on which the maskers look, then the question on its cache."""
    cache = passes.new_cache()
    prefill = SparseState(chain, is_dense=True)
    passes.feed(cache, prompt.context, prefill if chain else None)
    state = SparseState(chain, memos=prefill.memos, position=len(prompt.context))
    return passes.feed(cache, prompt.question, state if chain else None, last=len(prompt.question))


def _tolerance(model: Any) -> float:
    return _TOLERANCE.get(model.dtype, _ROUGH)


def _reach(model: Any) -> int:
    """Tokens of context behind which the model's sliding window, if it has one, hides some."""
    window = getattr(model.config.get_text_config(), "sliding_window", None)
    return min(window or 0, _LONGEST) + _QUESTION


@contextmanager
def _own_attention(model: Any) -> Iterator[None]:
    """transformers' own attention in the place of ours."""
    model.set_attn_implementation("sdpa" if model._supports_sdpa else "eager")
    try:
        yield
    finally:
        model.set_attn_implementation(NAME)
