"""The sizes of a model's attention, read from its config.json without loading anything."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["ModelShape", "model_file", "read_shape", "shape_of_config"]


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
        head_dim = text.get("head_dim") or int(text["hidden_size"]) // heads
        return ModelShape(
            int(text["num_hidden_layers"]), heads, int(text.get("num_key_value_heads") or heads), int(head_dim)
        )
    except (KeyError, TypeError, ValueError, AttributeError, ZeroDivisionError):
        return None


def read_shape(source: str, revision: str | None) -> ModelShape | None:
    """Of a model folder, or of a hub name as far as the local cache knows it; None where that cannot be told."""
    file = model_file(source, "config.json", revision)
    try:
        return shape_of_config(json.loads(file.read_text(encoding="utf-8"))) if file else None
    except (OSError, ValueError):
        return None


def model_file(source: str, name: str, revision: str | None) -> Path | None:
    """Where a file of a model folder is, or of a hub name in the local cache; None where that does not have it."""
    if Path(source).is_dir():
        return Path(source) / name
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(source, name, revision=revision)
    return Path(cached) if isinstance(cached, str) else None
