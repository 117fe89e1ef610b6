"""One catalog of names: benchmarks, maskers and adapters, built in or from installed plug-ins, imported when used."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import json
import types
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal

import pydantic

from hpc_bench.errors import PluginError, SweepError, unknown_name

__all__ = ["BUILT_IN", "Kind", "build", "from_mapping", "name_of", "names", "resolve"]

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

_MOST_SHOWN = 60
_REMEDIES: Mapping[str, str] = types.MappingProxyType(
    {
        "bool_type": "true or false (no quotes)",
        "dict_type": "a mapping such as {key: value}",
        "float_type": "a number such as 0.5 (no quotes)",
        "int_type": "a whole number such as 4 (no quotes, no point)",
        "list_type": "a list such as [0, 1]",
        "string_type": "text (in quotes where it looks like a number)",
    }
)
"""pydantic's kind of complaint -> what to write."""


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


@cache
def _validator(cls: Any) -> pydantic.TypeAdapter[Any]:
    return pydantic.TypeAdapter(cls)


def build(kind: Kind, name: str, options: Mapping[str, Any]) -> Any:
    """An instance of the dataclass behind `name` from YAML values; SweepError says which option is wrong."""
    return from_mapping(resolve(kind, name), options, f"option of {name}")


def from_mapping(cls: Any, options: Mapping[str, Any], what: str) -> Any:
    """A dataclass from YAML values, types checked without coercion; SweepError names the key and what is allowed."""
    valid = [field.name for field in dataclasses.fields(cls)]
    for key in options:
        if key not in valid:
            raise SweepError(unknown_name(what, key, valid) if valid else f"takes no options, but {key!r} was given")
    try:
        return _validator(cls).validate_json(json.dumps(dict(options), allow_nan=False), strict=True)
    except pydantic.ValidationError as error:
        raise _as_sweep_error(error, cls) from error
    except (TypeError, ValueError, RecursionError) as error:
        if inspect.isabstract(cls):
            lacking = ", ".join(sorted(cls.__abstractmethods__))
            raise PluginError(f"{cls.__module__}.{cls.__name__} does not define {lacking}") from error
        raise SweepError(f"holds a value that is not plain YAML data: {error}") from error


def _as_sweep_error(error: pydantic.ValidationError, cls: Any) -> SweepError:
    """The first complaint, with the key it is about; the complaints of a union's members are joined by "or"."""
    details = error.errors(include_url=False)
    place = details[0]["loc"][:1]
    if details[0]["type"] == "missing":
        wanted = ", ".join(field.name for field in dataclasses.fields(cls) if _is_needed(field))
        return SweepError(
            f"field required; name it beside the others that have no default: {{{wanted}}}", *map(str, place)
        )
    about = [part for part in details if part["loc"][:1] == place]
    messages = (part["msg"].removeprefix("Value error, ") for part in about)
    said = ", or ".join(dict.fromkeys(text[:1].lower() + text[1:] for text in messages))
    return SweepError(said + _got(about), *map(str, place))


def _is_needed(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _got(details: Sequence[Any]) -> str:
    """The value that was refused, and what to write in its place; empty where a class said so itself."""
    if details[0]["type"] == "value_error":
        return ""
    value = details[0]["input"]
    shown = repr(value) if isinstance(value, str) else json.dumps(value)
    short = shown if len(shown) <= _MOST_SHOWN else f"{shown[:_MOST_SHOWN]}..."
    remedies = dict.fromkeys(_REMEDIES[part["type"]] for part in details if part["type"] in _REMEDIES)
    return f", not {short}" + (f"; write {' or '.join(remedies)}" if remedies else "")
