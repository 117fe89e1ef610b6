"""Every masker of the catalog, sized as in its paper, for measurements; files that maskers need hold random numbers."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from hpc_bench import catalog
from hpc_bench.adapters.sparse.layer_pass import LayerPass
from hpc_bench.adapters.sparse.state import SparseState
from hpc_bench.attention.base import Chain, Masker
from hpc_bench.attention.maskers.hash_attention import hash_shapes
from hpc_bench.attention.model_shape import ModelShape

__all__ = ["HEAVY", "SHAPE", "Layer", "make_chain", "make_masker", "variants"]

SHAPE = ModelShape(layers=1, heads=8, kv_heads=2, head_dim=64)
HEAVY = (1024, 0.1)
_OPTIONS: dict[str, dict[str, Any]] = {
    "adaptive_sampling": {"base_rate": 0.02, "epsilon": 0.1, "delta": 0.1},
    "h2o": {"recent": 1024},
    "local": {"size": 1024},
    "magic_pig": {"l": 75, "k": 8},
    "oracle_top_p": {"p": 0.95},
    "random_sampling": {"rate": 0.1},
    "sink": {"size": 128},
    "snapkv": {"keep": 1024},
}
_FILES = {"double_sparsity": "channels", "hash_attention": "weights"}


def variants() -> list[tuple[str, int | float | None]]:
    """Every masker's name, with each of HEAVY where it has that parameter."""
    return [(name, heavy) for name in catalog.names("masker") for heavy in (HEAVY if _has_heavy(name) else (None,))]


def _has_heavy(name: str) -> bool:
    return any(field.name == "heavy" for field in dataclasses.fields(catalog.resolve("masker", name)))


def make_masker(name: str, heavy: int | float | None, folder: Path, shape: ModelShape = SHAPE) -> Masker:
    """The masker; its file, if it needs one, is made in `folder` the first time."""
    options = dict(_OPTIONS.get(name, {}))
    if heavy is not None:
        options["heavy"] = heavy
    if name in _FILES:
        options[_FILES[name]] = str(_random_file(name, folder, shape))
    masker: Masker = catalog.build("masker", name, options)
    return masker


def make_chain(name: str, folder: Path, shape: ModelShape = SHAPE) -> Chain:
    """A masker of the catalog with 1,024 heavy tokens, "sink+local" for these two, "dense" for none."""
    parts = [] if name == "dense" else name.split("+")
    return tuple(make_masker(part, HEAVY[0] if _has_heavy(part) else None, folder, shape) for part in parts)


def _random_file(name: str, folder: Path, shape: ModelShape) -> Path:
    path = folder / f"{name}-{hashlib.sha256(repr(shape).encode()).hexdigest()[:8]}.safetensors"
    draw = torch.Generator().manual_seed(0)
    if not path.exists():
        one_layer = {"double_sparsity": _channels, "hash_attention": _hash_weights}[name]
        layers = [(n, one_layer(shape, draw)) for n in range(shape.layers)]
        save_file({f"layers.{n}.{key}": value for n, made in layers for key, value in made.items()}, path)
    return path


def _channels(shape: ModelShape, draw: torch.Generator) -> dict[str, torch.Tensor]:
    return {"channels": torch.rand(shape.kv_heads, shape.head_dim, generator=draw).argsort(-1)}


def _hash_weights(shape: ModelShape, draw: torch.Generator) -> dict[str, torch.Tensor]:
    sizes = hash_shapes(shape, bits=32, mlp_layers=3, mlp_hidden=128)
    return {name: torch.randn(size, generator=draw) * size[-1] ** -0.5 for name, size in sizes.items()}


@dataclasses.dataclass(frozen=True)
class Layer:
    """Random queries, keys and values of one layer, and its passes; all of one text, so that caches fit."""

    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor

    @classmethod
    def random(cls, keys: int, shape: ModelShape = SHAPE) -> Layer:
        """The same at every run."""
        draw = torch.Generator().manual_seed(0)
        heads = (shape.heads, shape.kv_heads, shape.kv_heads)
        return cls(*(torch.randn(1, count, keys, shape.head_dim, generator=draw) for count in heads))

    def part(self, state: SparseState, start: int, stop: int, mask: torch.Tensor | None = None) -> LayerPass:
        """The pass of the tokens from `start` to `stop`; begins it in `state`."""
        state.begin_pass(stop - (start if state.memos else 0))
        scaling = self.key.shape[-1] ** -0.5
        key, value = self.key[:, :, :stop], self.value[:, :, :stop]
        return LayerPass(self.query[:, :, start:stop], key, value, mask, scaling, None, 0, 0, 0, state)
