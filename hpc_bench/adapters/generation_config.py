"""A model's own generation_config: which of its fields change answers, and which of them are not used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields
from types import MappingProxyType
from typing import Any

from hpc_bench.attention.model_shape import read_model_json
from hpc_bench.values import Generation, Json

__all__ = ["read_generation_config", "settings_of", "unsupported_fields", "unused_fields"]

_GREEDY: Mapping[str, Any] = MappingProxyType(
    {
        "sequence_bias": None,
        "repetition_penalty": 1.0,
        "no_repeat_ngram_size": 0,
        "bad_words_ids": None,
        "min_length": 0,
        "min_new_tokens": 0,
        "forced_bos_token_id": None,
        "forced_eos_token_id": None,
        "remove_invalid_values": False,
        "exponential_decay_length_penalty": None,
        "suppress_tokens": None,
        "begin_suppress_tokens": None,
        "stop_strings": None,
        "do_sample": False,
    }
)
"""Field -> the value without effect."""
_SAMPLING: Mapping[str, Any] = MappingProxyType(
    {
        "temperature": 1.0,
        "top_h": None,
        "top_k": 0,
        "top_p": 1.0,
        "min_p": 0.0,
        "typical_p": 1.0,
        "epsilon_cutoff": 0.0,
        "eta_cutoff": 0.0,
        "renormalize_logits": False,
    }
)
"""The same for those that change an answer only with do_sample."""
_USED: Mapping[str, Any] = MappingProxyType({**_GREEDY, **_SAMPLING})
_LIMITS: Mapping[str, Any] = MappingProxyType({"max_length": None, "max_new_tokens": None, "max_time": None})
"""An answer's length is the benchmark's and the sweep's to limit."""
_UNSUPPORTED: Mapping[str, Any] = MappingProxyType(
    {
        "num_beams": 1,
        "num_beam_groups": 1,
        "guidance_scale": 1.0,
        "penalty_alpha": 0.0,
        "dola_layers": None,
        "constraints": None,
        "force_words_ids": None,
        "token_healing": False,
        "watermarking_config": None,
    }
)
_TOP_K = 50
"""What transformers' `generate` samples with where a model does not say."""


def settings_of(generation: Generation, own: Mapping[str, Any]) -> dict[str, Any]:
    """What an answer is decoded with, named as in transformers: the sweep's keys, over the model's `own` fields where
    the sweep takes these. Fields without effect are left out.
    """
    taken = {"top_k": _TOP_K, **_set(own, {**_USED, "top_k": _TOP_K})} if generation.from_model else {}
    for key in fields(generation):
        value = getattr(generation, key.name)
        if key.default is not MISSING and key.name in _USED and value != key.default:
            taken[key.name] = value
    stops = own.get("stop_strings") or () if generation.from_model else ()
    theirs = (stops,) if isinstance(stops, str) else tuple(stops)
    return {**taken, "stop_strings": (*generation.stop_strings, *theirs)}


def unused_fields(own: Mapping[str, Any], *, from_model: bool) -> dict[str, Json]:
    """The fields of a generation_config that `generate` would heed and answers here do not."""
    heeded = {**_LIMITS, **_UNSUPPORTED}
    if not from_model:
        heeded |= {**_GREEDY, **(_SAMPLING if own.get("do_sample") else {})}
    return {name: value if _is_plain(value) else str(value) for name, value in _set(own, heeded).items()}


def unsupported_fields(own: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a generation_config without which its answers are not those of `generate`."""
    return _set(own, _UNSUPPORTED)


def read_generation_config(source: str, revision: str | None) -> dict[str, Any]:
    """The generation_config.json of a model folder, or of a hub name as far as the local cache has it; else empty."""
    return read_model_json(source, "generation_config.json", revision)


def _set(own: Mapping[str, Any], neutral: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the fields named in `neutral` that have another value."""
    return {name: own[name] for name in neutral if own.get(name) is not None and own[name] != neutral[name]}


def _is_plain(value: Any) -> bool:
    return isinstance(value, (bool, int, float, str, list, dict))
