"""One catalog of names: benchmarks, maskers and adapters, built in or from installed plug-ins, imported when used."""

from __future__ import annotations

import dataclasses
import importlib
import types
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal

from hpc_bench.errors import PluginError, SweepError, unknown_name
from hpc_bench.options import from_mapping
from hpc_bench.source_digest import source_digest

__all__ = ["BUILT_IN", "Kind", "build", "code_of", "name_of", "names", "resolve"]

Kind = Literal["benchmark", "masker", "adapter"]

BUILT_IN: Mapping[Kind, Mapping[str, str]] = types.MappingProxyType(
    {
        "benchmark": {
            "aime2024": "hpc_bench.benchmarks.suites.aime:Aime2024",
            "aime2025": "hpc_bench.benchmarks.suites.aime:Aime2025",
            "infinite_bench": "hpc_bench.benchmarks.suites.infinite_bench:InfiniteBench",
            "longbench": "hpc_bench.benchmarks.suites.longbench:LongBench",
            "longbenchv2": "hpc_bench.benchmarks.suites.longbenchv2:LongBenchV2",
            "loogle": "hpc_bench.benchmarks.suites.loogle:LooGLE",
            "mock_benchmark": "hpc_bench.benchmarks.suites.mock_benchmark:MockBenchmark",
            "needle": "hpc_bench.benchmarks.suites.needle:Needle",
            "own_data": "hpc_bench.benchmarks.suites.own_data:OwnData",
            "ruler": "hpc_bench.benchmarks.suites.ruler:Ruler",
            "zero_scrolls": "hpc_bench.benchmarks.suites.zero_scrolls:ZeroScrolls",
        },
        "masker": {
            "adaptive_sampling": "hpc_bench.attention.maskers.adaptive_sampling:AdaptiveSampling",
            "double_sparsity": "hpc_bench.attention.maskers.double_sparsity:DoubleSparsity",
            "h2o": "hpc_bench.attention.maskers.h2o:H2O",
            "hash_attention": "hpc_bench.attention.maskers.hash_attention:HashAttention",
            "local": "hpc_bench.attention.maskers.local:Local",
            "magic_pig": "hpc_bench.attention.maskers.magic_pig:MagicPig",
            "oracle_top_k": "hpc_bench.attention.maskers.oracle_top_k:OracleTopK",
            "oracle_top_p": "hpc_bench.attention.maskers.oracle_top_p:OracleTopP",
            "pq_cache": "hpc_bench.attention.maskers.pq_cache:PQCache",
            "quest": "hpc_bench.attention.maskers.quest:Quest",
            "random_sampling": "hpc_bench.attention.maskers.random_sampling:RandomSampling",
            "sink": "hpc_bench.attention.maskers.sink:Sink",
            "snapkv": "hpc_bench.attention.maskers.snapkv:SnapKV",
            "streaming": "hpc_bench.attention.maskers.streaming:Streaming",
        },
        "adapter": {
            "huggingface": "hpc_bench.adapters.huggingface:HuggingFaceAdapter",
            "scripted": "hpc_bench.adapters.scripted:ScriptedAdapter",
        },
    }
)


@cache
def _plug_ins(kind: Kind) -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=f"hpc_bench.{kind}s")}


def names(kind: Kind) -> list[str]:
    """All valid names of a kind, built in and from plug-ins."""
    return sorted({*BUILT_IN[kind], *_plug_ins(kind)})


@cache
def resolve(kind: Kind, name: str) -> type[Any]:
    """The class behind a name; SweepError lists the valid names, PluginError names a plug-in that cannot load."""
    if name in BUILT_IN[kind]:
        module, _, attribute = BUILT_IN[kind][name].partition(":")
        return getattr(importlib.import_module(module), attribute)  # type: ignore[no-any-return]
    point = _plug_ins(kind).get(name)
    if point is None:
        raise SweepError(unknown_name(kind, name, names(kind)))
    try:
        cls = point.load()
    except (Exception, SystemExit) as error:  # a module may end its own process
        reason = f"{type(error).__name__}: {error}"
        raise PluginError(f"{kind} {name!r} from {point.value} cannot be loaded: {reason}") from error
    if not isinstance(cls, type) or (kind != "adapter" and not dataclasses.is_dataclass(cls)):
        raise PluginError(f"{kind} {name!r} is no dataclass: {point.value}")
    return cls


@cache
def name_of(kind: Kind, cls: type[Any]) -> str:
    """The name that resolves to a class; PluginError if none does."""
    for name in names(kind):
        with suppress(PluginError):  # a broken plug-in that is not used must stop nobody
            if resolve(kind, name) is cls:
                return name
    raise PluginError(f"{cls.__name__} is no {kind} of the catalog; an entry point hpc_bench.{kind}s makes it one")


def code_of(kind: Kind, name: str) -> str:
    """The digest of a plug-in's code, as it is now; empty for what is built in, whose `version` tells of changes."""
    point = _plug_ins(kind).get(name)
    return source_digest(point) if point and name not in BUILT_IN[kind] else ""


def build(kind: Kind, name: str, options: Mapping[str, Any]) -> Any:
    """An instance of the dataclass behind `name` from YAML values; SweepError says which option is wrong."""
    return from_mapping(resolve(kind, name), options, f"option of {name}")
