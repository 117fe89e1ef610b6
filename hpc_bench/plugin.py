"""The public interface for plug-ins: what a benchmark, masker or adapter in a package of its own needs.

A plug-in imports this module, and `hpc_bench.plugin_checks` in its tests, and no other module of hpc_bench. The names
in `__all__` stay in all later versions, with the same meaning; everything else may be moved, renamed or removed. Entry
points of the groups `hpc_bench.benchmarks`, `hpc_bench.maskers` and `hpc_bench.adapters` make plug-ins known by name.

Importing this module loads nothing heavy. The functions that need torch load it when they are imported: import them
inside the methods of a masker, since planning a sweep loads maskers and must not wait for torch.
"""

from __future__ import annotations

import importlib
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from hpc_bench.adapters.base import AdapterError, DeviceError, ModelAdapter, Prefill, kept_tokens
from hpc_bench.attention.base import AttentionConfig, AttentionInputs, Chain, Masker, check_size, keys_of_size
from hpc_bench.attention.key_notes import note_keys
from hpc_bench.attention.model_shape import ModelShape
from hpc_bench.benchmarks.base import Benchmark, PromptTokens, SubsetSize, Tokens, prompt_tokens
from hpc_bench.benchmarks.data.readers import Row
from hpc_bench.benchmarks.data.table import TableBenchmark
from hpc_bench.errors import DatasetError, PluginError, SweepError, unknown_name
from hpc_bench.options import doc
from hpc_bench.values import Answer, Generation, HubRepo, Json, Metric, ModelOptions, Sample, Scores, Truncation

if TYPE_CHECKING:
    from hpc_bench.attention.random_draw import uniform
    from hpc_bench.attention.scores import (
        attention_weights,
        by_key_head,
        exact_scores,
        grouped_product,
        keep_best,
        per_query_head,
    )

__all__ = [
    "AdapterError",
    "Answer",
    "AttentionConfig",
    "AttentionInputs",
    "Benchmark",
    "Chain",
    "DatasetError",
    "DeviceError",
    "Generation",
    "HubRepo",
    "Json",
    "Masker",
    "Metric",
    "ModelAdapter",
    "ModelOptions",
    "ModelShape",
    "PluginError",
    "Prefill",
    "PromptTokens",
    "Row",
    "Sample",
    "Scores",
    "SubsetSize",
    "SweepError",
    "TableBenchmark",
    "Tokens",
    "Truncation",
    "attention_weights",
    "by_key_head",
    "check_size",
    "doc",
    "exact_scores",
    "grouped_product",
    "keep_best",
    "kept_tokens",
    "keys_of_size",
    "note_keys",
    "per_query_head",
    "prompt_tokens",
    "uniform",
    "unknown_name",
]

_NEEDS_TORCH = MappingProxyType(
    {
        "attention_weights": "hpc_bench.attention.scores",
        "by_key_head": "hpc_bench.attention.scores",
        "exact_scores": "hpc_bench.attention.scores",
        "grouped_product": "hpc_bench.attention.scores",
        "keep_best": "hpc_bench.attention.scores",
        "per_query_head": "hpc_bench.attention.scores",
        "uniform": "hpc_bench.attention.random_draw",
    }
)

if not TYPE_CHECKING:  # with a module __getattr__, type checkers accept every name

    def __getattr__(name: str) -> Any:
        """Loads a function that needs torch on its first use."""
        if name in _NEEDS_TORCH:
            return getattr(importlib.import_module(_NEEDS_TORCH[name]), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
