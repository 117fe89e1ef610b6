"""Parameters under which each masker of the catalog keeps little or everything, and the files that some need."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from hpc_bench import catalog
from hpc_bench.attention.base import AttentionConfig, Masker
from hpc_bench.attention.maskers.hash_attention import hash_shapes
from hpc_bench.attention.maskers.sink import Sink
from hpc_bench.attention.model_shape import ModelShape

__all__ = ["masker_files", "options_for", "small_configs", "write_channels", "write_hash"]

SIZES: dict[str, int | float] = {"small": 3, "share": 0.2, "all": 10**9, "share all": 1.0, "beyond": 33}
"""What a budget is in tokens, or as a share of the keys."""
_NETWORK = {"mlp_layers": 2, "mlp_hidden": 24}

Files = Mapping[str, Mapping[str, str]]


def options_for(name: str, budget: str, files: Files) -> dict[str, Any]:
    """Parameters of a masker that keeps little ("small", "share") or everything ("all", "share all", "beyond")."""
    size: Any = SIZES[budget]
    full = budget not in ("small", "share")
    table: Mapping[str, dict[str, Any]] = {
        "streaming": {"sink": size, "local": size},
        "oracle_top_p": {"p": 1.0 if full else 0.4},
        "hash_attention": {"heavy": size, **_NETWORK},
        "double_sparsity": {"heavy": size, "group_factor": 4},
        "quest": {"heavy": size, "page_size": 4},
        "pq_cache": {"heavy": size, "sub_dim": 4, "bits": 2},
        "random_sampling": {"rate": 1.0 if full else 0.25},
        "adaptive_sampling": {"base_rate": size, "epsilon": 0.9, "delta": 0.9, "init": 2, "local": 2},
        "magic_pig": {"l": 300, "k": 1} if full else {"l": 8, "k": 3},
        "h2o": {"heavy": size, "recent": size},
        "snapkv": {"keep": 6 if size == 3 else size, "window": 2, "kernel": 3},
    }
    if name in table:
        return {**table[name], **files.get(name, {})}
    first = dataclasses.fields(catalog.resolve("masker", name))[0].name
    return {first: size}


def small_configs(folder: Path, shape: ModelShape) -> dict[str, AttentionConfig]:
    """Name -> the masker behind two sinks, for a model of this shape; the files are written into `folder`."""
    files, configs = masker_files(folder, shape), {}
    for name in catalog.names("masker"):
        masker: Masker = catalog.build("masker", name, options_for(name, "small", files))
        masker.check_model(shape)
        configs[name] = AttentionConfig((Sink(2), masker))
    return configs


def masker_files(folder: Path, shape: ModelShape) -> Files:
    """The options that name a file, written into `folder`, by masker."""
    return {
        "double_sparsity": {"channels": str(write_channels(folder / "channels.safetensors", shape))},
        "hash_attention": {"weights": str(write_hash(folder / "hash.safetensors", shape, **_NETWORK))},
    }


def write_channels(path: Path, shape: ModelShape) -> Path:
    """A random order of channels for each key head."""
    draw = torch.Generator().manual_seed(0)
    order = {
        f"layers.{layer}.channels": torch.stack(
            [torch.randperm(shape.head_dim, generator=draw) for _ in range(shape.kv_heads)]
        )
        for layer in range(shape.layers)
    }
    save_file(order, path)
    return path


def write_hash(path: Path, shape: ModelShape, mlp_layers: int = 3, mlp_hidden: int = 128) -> Path:
    """Random networks, of the default size if no other is given."""
    draw = torch.Generator().manual_seed(0)
    sizes = hash_shapes(shape, bits=32, mlp_layers=mlp_layers, mlp_hidden=mlp_hidden)
    save_file(
        {
            f"layers.{layer}.{name}": torch.randn(size, generator=draw)
            for layer in range(shape.layers)
            for name, size in sizes.items()
        },
        path,
    )
    return path
