"""Proof, on a real prompt, that nothing is lost between a model and the maskers: masks, cache, heads, scaling."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from hpc_bench.adapters.base import AdapterError
from hpc_bench.adapters.sparse.attention_interface import NAME
from hpc_bench.adapters.sparse.state import SparseState
from hpc_bench.attention.maskers.sink import Sink

__all__ = ["check_attention_path"]

_CONTEXT, _QUESTION, _LONGEST = 448, 64, 8192
"""Tokens of the prompt that are asked, since a wrong mask shows on short prompts too; beyond a sliding window, though,
as far as that is not too long."""
_TOLERANCE = {torch.float64: 1e-5, torch.float32: 1e-3}
_ROUGH = 0.1
"""Relative difference of logits: float noise is far below, a missing or non-causal mask far above."""


def check_attention_path(model: Any, context: Sequence[int], question: Sequence[int]) -> None:
    """AdapterError if the logits of a prompt differ between the model's own attention, ours, and ours with a chain
    that keeps every key; `model` was loaded with ours.
    """
    ids = [*context[: max(_CONTEXT, _reach(model))], *question[:_QUESTION]]
    behind = min(len(question), _QUESTION, len(ids) - 1)
    if behind < 1:
        return
    own = _own_logits(model, ids, behind)
    for name, state in (("dense", None), ("sparse attention that keeps every key", SparseState((Sink(1.0),)))):
        ours = _logits_behind_cache(model, ids, behind, state)
        difference = float((ours - own).norm() / own.norm().clamp(min=1e-12))
        if not difference <= _TOLERANCE.get(model.dtype, _ROUGH):
            raise AdapterError(
                f"{type(model).__name__}: {name} gives other logits than the model's own attention (they differ by "
                f"{difference:.2g} of their size), so no result of this model could be trusted"
            )


def _reach(model: Any) -> int:
    """Tokens of context behind which the model's sliding window, if it has one, hides some."""
    window = getattr(model.config.get_text_config(), "sliding_window", None)
    return min(window or 0, _LONGEST) + _QUESTION


def _own_logits(model: Any, ids: Sequence[int], behind: int) -> Tensor:
    """Of the last `behind` tokens, by one pass over the whole prompt under transformers' own attention."""
    model.set_attn_implementation("sdpa" if model._supports_sdpa else "eager")
    try:
        return _logits(model, ids, behind, DynamicCache(config=model.config))
    finally:
        model.set_attn_implementation(NAME)


def _logits_behind_cache(model: Any, ids: Sequence[int], behind: int, state: SparseState | None) -> Tensor:
    """The same as prompts are really asked: the context first, then the question on its cache."""
    cache = DynamicCache(config=model.config)
    _logits(model, ids[:-behind], 1, cache)
    if state is None:
        return _logits(model, ids[-behind:], behind, cache)
    state.begin_pass(len(ids))
    return _logits(model, ids[-behind:], behind, cache, sparse_state=state)


def _logits(model: Any, ids: Sequence[int], last: int, cache: Any, **kwargs: Any) -> Tensor:
    if "logits_to_keep" in inspect.signature(model.forward).parameters:
        kwargs["logits_to_keep"] = last
    with torch.inference_mode():
        inputs = torch.tensor([list(ids)], device=model.device)
        output = model(input_ids=inputs, past_key_values=cache, use_cache=True, **kwargs)
    logits: Tensor = output.logits[:, -last:].float()
    return logits
