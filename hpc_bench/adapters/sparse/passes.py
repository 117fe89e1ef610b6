"""Forward passes over a model's cache: the one way in which ids are fed, wherever that is."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from hpc_bench.adapters.base import AdapterError
from hpc_bench.adapters.sparse.state import SparseState

__all__ = ["Passes", "check_attention_is_reached", "fork_cache"]

_PROBE = 16
"""Ids that are fed to learn how a model treats its recurrent state."""


class Passes:
    """Feeds ids to a model, in as many passes as that model needs."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self._accepted = frozenset(inspect.signature(model.forward).parameters)
        self._shares_keys = bool(getattr(model.config.get_text_config(), "num_kv_shared_layers", 0))
        self._dynamic_ropes = [part for part in model.modules() if "dynamic" in str(getattr(part, "rope_type", ""))]
        self._one_by_one = _ignores_recurrent_state(self)

    def new_cache(self) -> DynamicCache:
        """An empty cache with the layers that the model needs."""
        return DynamicCache(config=self.model.config)

    def feed(self, cache: Any, ids: Sequence[int], state: SparseState | None = None, last: int = 1) -> Tensor:
        """Feeds `ids` behind the cache, which grows; float32 logits of the `last` positions, [1, last, vocabulary]."""
        if self._one_by_one and cache.get_seq_length():
            return torch.cat([self.feed_at_once(cache, [token], state) for token in ids], 1)[:, -last:]
        return self.feed_at_once(cache, ids, state, last)

    def feed_at_once(self, cache: Any, ids: Sequence[int], state: SparseState | None = None, last: int = 1) -> Tensor:
        """The same in one pass, whatever the model."""
        self._forget_longest_text()
        extra = self._arguments(cache, len(ids), state, last)
        if state is not None:
            state.begin_pass(len(ids))
        inputs = torch.tensor([list(ids)], device=self.model.device)
        with torch.inference_mode():
            output = self.model(input_ids=inputs, past_key_values=cache, use_cache=True, **extra)
        if state is not None:
            check_attention_is_reached(self.model, state)
        logits: Tensor = output.logits[:, -last:].float()
        return logits

    def _arguments(self, cache: Any, tokens: int, state: SparseState | None, last: int) -> dict[str, Any]:
        extra: dict[str, Any] = {} if state is None else {"sparse_state": state}
        if "position_ids" in self._accepted:
            # As transformers' generate does, since some models count from 0 in every pass if they are not told.
            start = cache.get_seq_length()
            extra["position_ids"] = torch.arange(start, start + tokens, device=self.model.device)[None]
        if "logits_to_keep" in self._accepted:
            # Told a number, models whose last layers share keys show those layers no other queries. A slice is
            # heeded for the logits alone, so that maskers see the whole pass in every layer.
            whole = self._shares_keys and state is not None
            extra["logits_to_keep"] = slice(-last, None) if whole else last
        return extra

    def _forget_longest_text(self) -> None:
        """Dynamic RoPE scales by the longest text since it was last reset, which may have been another prompt's."""
        for rope in self._dynamic_ropes:
            for name in [name for name in vars(rope) if name.endswith("max_seq_len_cached")]:
                setattr(rope, name, 0)


def check_attention_is_reached(model: Any, state: SparseState) -> None:
    """AdapterError after a pass in which no layer of the model was given its `state`."""
    if state.calls == 0:
        raise AdapterError(
            f"{type(model).__name__} does not hand keyword arguments down to its attention, so it cannot be made sparse"
        )


def fork_cache(cache: Any) -> Any:
    """A cache that grows on its own and leaves the original as it is."""
    if any(type(layer) is not DynamicLayer for layer in cache.layers):
        return copy.deepcopy(cache)
    # This layer type grows by concatenation into new tensors, so that sharing the old ones is safe and costs nothing.
    fork = copy.copy(cache)
    fork.layers = [copy.copy(layer) for layer in cache.layers]
    return fork


def _ignores_recurrent_state(passes: Passes) -> bool:
    """Whether a pass of several tokens starts from an empty recurrent state, whatever the cache holds (Jamba's does).

    Told from logits that stay the same to the bit when the state is emptied.
    """
    if not getattr(passes.model, "_is_stateful", False):
        return False
    before, behind = range(_PROBE), range(_PROBE, 2 * _PROBE)
    cache = passes.new_cache()
    passes.feed_at_once(cache, before)
    emptied = fork_cache(cache)
    if not _empty_recurrent_states(emptied):
        return False
    return torch.equal(passes.feed_at_once(fork_cache(cache), behind), passes.feed_at_once(emptied, behind))


def _empty_recurrent_states(cache: Any) -> bool:
    """Whether the cache has any."""
    layers = [getattr(layer, "recurrent_states", {}) for layer in cache.layers]
    states = [state for layer in layers for state in layer.values() if state is not None]
    for state in states:
        state.zero_()
    return bool(states)
