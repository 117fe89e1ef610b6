"""Every masker of the catalog with parameters small enough for the tests' contexts, and the files that some need."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from hpc_bench import catalog
from hpc_bench.attention.base import AttentionConfig, Masker
from hpc_bench.attention.maskers.hash_attention import hash_shapes
from hpc_bench.attention.maskers.sink import Sink
from hpc_bench.attention.model_shape import ModelShape

__all__ = ["small_configs", "write_channels", "write_hash"]

_OPTIONS: dict[str, dict[str, Any]] = {
    "adaptive_sampling": {"base_rate": 4, "epsilon": 0.2, "delta": 0.2, "init": 2, "local": 4},
    "double_sparsity": {"heavy": 4, "group_factor": 4},
    "h2o": {"heavy": 4, "recent": 3},
    "hash_attention": {"heavy": 4},
    "local": {"size": 8},
    "magic_pig": {"l": 12, "k": 3},
    "oracle_top_k": {"heavy": 4},
    "oracle_top_p": {"p": 0.5},
    "pq_cache": {"heavy": 4, "sub_dim": 8, "bits": 3},
    "quest": {"heavy": 4, "page_size": 4},
    "random_sampling": {"rate": 0.2},
    "sink": {"size": 8},
    "snapkv": {"keep": 8, "window": 4},
    "streaming": {"sink": 2, "local": 4},
}


def small_configs(folder: Path, shape: ModelShape) -> dict[str, AttentionConfig]:
    """Name -> the masker behind two sinks, for a model of this shape; the files are written into `folder`."""
    files = {
        "double_sparsity": {"channels": str(write_channels(folder / "channels.safetensors", shape))},
        "hash_attention": {"weights": str(write_hash(folder / "hash.safetensors", shape))},
    }
    configs = {}
    for name in catalog.names("masker"):
        masker: Masker = catalog.build("masker", name, {**_OPTIONS[name], **files.get(name, {})})
        masker.check_model(shape)
        configs[name] = AttentionConfig((Sink(2), masker))
    return configs


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


def write_hash(path: Path, shape: ModelShape) -> Path:
    """Random networks of the default size."""
    draw = torch.Generator().manual_seed(0)
    sizes = hash_shapes(shape, bits=32, mlp_layers=3, mlp_hidden=128)
    save_file(
        {
            f"layers.{layer}.{name}": torch.randn(size, generator=draw)
            for layer in range(shape.layers)
            for name, size in sizes.items()
        },
        path,
    )
    return path
