"""One entry of `sparse_attention_configs`: a chain of maskers, and where it acts."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpc_bench import catalog
from hpc_bench.attention.base import AttentionConfig, Chain, Masker
from hpc_bench.errors import SweepError, unknown_name, within
from hpc_bench.options import from_mapping, with_paths
from hpc_bench.sweep.reading import checked_mapping

__all__ = ["describe_attention", "parse_attention"]


@dataclass(frozen=True)
class _AttentionOptions:
    """The keys of an attention config that is a mapping, beside `maskers`."""

    sparse_prefill: bool = False
    measure_error: float = 0.0


def parse_attention(config: Any, folder: Path) -> AttentionConfig:
    """An attention config from YAML: a list of maskers, or a mapping of `maskers` and what else is to be said;
    `folder` is the sweep's. SweepError says what is wrong.
    """
    if not isinstance(config, dict):
        return AttentionConfig(_chain(config, folder))
    options = dict(checked_mapping(config))
    maskers = options.pop("maskers", None)
    valid = [field.name for field in dataclasses.fields(_AttentionOptions)]
    for key in options:
        if key not in valid:
            remedy = "maskers are named in a list of maskers such as [{sink: 4}, {local: 64}]"
            raise SweepError(f"{unknown_name('key', key, ('maskers', *valid))}; {remedy}")
    chosen: _AttentionOptions = from_mapping(_AttentionOptions, options, "key")
    with within("maskers"):
        chain = _chain(maskers, folder)
    return AttentionConfig(chain, chosen.sparse_prefill, chosen.measure_error)


def _chain(items: Any, folder: Path) -> Chain:
    if items is None:
        return ()
    if not isinstance(items, list):
        raise SweepError("must be a list of maskers such as [{sink: 4}, {local: 64}], or empty for dense attention")
    return tuple(_masker(index, item, folder) for index, item in enumerate(items))


def _masker(index: int, item: Any, folder: Path) -> Any:
    with within(str(index)):
        if not isinstance(item, dict) or len(item) != 1:
            raise SweepError("must be one masker such as {sink: 4}")
        name, options = next(iter(item.items()))
        cls = catalog.resolve("masker", name)
        with within(name):
            if not isinstance(options, dict):
                first = dataclasses.fields(cls)[0].name
                options = {first: options}
            return catalog.build("masker", name, with_paths(cls, options, folder))


def describe_attention(attention: AttentionConfig) -> str:
    """A config in words, with sizes as tokens or shares and every default spelled out."""
    if not attention.chain:
        return "dense"
    words = " > ".join(_describe(masker) for masker in attention.chain)
    extras = [" (in the prefill too)"] if attention.sparse_prefill else []
    extras += [f" (error measured in {attention.measure_error:.0%} of the passes)"] if attention.measure_error else []
    return words + "".join(extras)


def _describe(masker: Masker) -> str:
    parts = (f"{field.name} {_value(masker, field)}" for field in dataclasses.fields(masker))
    return f"{catalog.name_of('masker', type(masker))}({', '.join(parts)})"


def _value(masker: Masker, field: dataclasses.Field[Any]) -> str:
    value = getattr(masker, field.name)
    if field.name in masker.files:
        return Path(value).name
    if field.type == "int | float":  # a size: what is meant depends on the point alone
        return f"{value} token{'s' * (value != 1)}" if isinstance(value, int) else f"{value:.6g} of the keys"
    return str(value)
