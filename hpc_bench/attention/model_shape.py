"""The sizes and the reach of a model's attention, read from its config.json without loading anything."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpc_bench.files import read_json

__all__ = ["ModelShape", "model_file", "positions_of_config", "read_model_json", "read_shape", "shape_of_config"]


_STRETCHING = ("dynamic", "yarn")
"""Kinds of RoPE scaling by a factor of the positions of the training. Of others, llama3 is in use beyond that product,
and configs with linear scaling hold both products and positions of the training as `max_position_embeddings`."""


@dataclass(frozen=True)
class ModelShape:
    """What maskers and their files must fit."""

    layers: int
    heads: int
    kv_heads: int
    head_dim: int


def shape_of_config(config: Mapping[str, Any]) -> ModelShape | None:
    """From the keys of a transformers config; None where it does not say (then the model itself is asked)."""
    text = config.get("text_config", config)
    try:
        heads = int(text["num_attention_heads"])
        head_dim = _latent_head_dim(text) or text.get("head_dim") or int(text["hidden_size"]) // heads
        return ModelShape(
            int(text["num_hidden_layers"]), heads, int(text.get("num_key_value_heads") or heads), int(head_dim)
        )
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError):
        return None


def _latent_head_dim(text: Mapping[str, Any]) -> int | None:
    """Of multi-head latent attention, whose keys have a part with and one without positions (DeepSeek-V2's paper, 2.1);
    `head_dim` is then that of one part.
    """
    without, with_positions = text.get("qk_nope_head_dim"), text.get("qk_rope_head_dim")
    return None if without is None or with_positions is None else int(without) + int(with_positions)


def positions_of_config(config: Mapping[str, Any]) -> int | None:
    """Tokens of the longest text that a model can read, by the keys of its transformers config; None: no limit.

    YaRN and dynamic scaling stretch the positions of the training by a factor. Some configs hold the product as
    `max_position_embeddings`, some hold the positions of the training there, so the larger of the two counts.
    """
    text = config.get("text_config", config)
    stated: int | None = text.get("max_position_embeddings")
    if stated is None:
        return None
    ropes = text.get("rope_parameters") or text.get("rope_scaling") or {}
    by_layer_type = [rope for rope in ropes.values() if isinstance(rope, Mapping)]
    return max([stated, *(_stretched(rope, stated) for rope in by_layer_type or [ropes])])


def _stretched(rope: Mapping[str, Any], stated: int) -> int:
    if rope.get("rope_type", rope.get("type")) not in _STRETCHING:
        return 0
    return int((rope.get("factor") or 1) * (rope.get("original_max_position_embeddings") or stated))


def read_shape(source: str, revision: str | None) -> ModelShape | None:
    """Of a model folder, or of a hub name as far as the local cache knows it; None where that cannot be told."""
    return shape_of_config(read_model_json(source, "config.json", revision))


def read_model_json(source: str, name: str, revision: str | None) -> dict[str, Any]:
    """The keys in a JSON file of a model folder, or of a hub name in the local cache; none where it has no such file,
    or one of another form, which whoever loads the model will complain of.
    """
    file = model_file(source, name, revision)
    try:
        content: Any = read_json(file) if file else {}
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def model_file(source: str, name: str, revision: str | None) -> Path | None:
    """Where a file of a model folder is, or of a hub name in the local cache; None where that does not have it."""
    if Path(source).is_dir():
        return Path(source) / name
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(source, name, revision=revision)
    return Path(cached) if isinstance(cached, str) else None
