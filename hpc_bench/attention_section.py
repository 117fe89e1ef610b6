"""One entry of `sparse_attention_configs`: a chain of maskers, and where it acts."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from hpc_bench import catalog
from hpc_bench.attention.base import AttentionConfig, Chain
from hpc_bench.errors import SweepError, unknown_name, within
from hpc_bench.yaml_file import checked_mapping

__all__ = ["parse_attention"]


@dataclass(frozen=True)
class _AttentionOptions:
    """The keys of an attention config that is a mapping, beside `maskers`."""

    sparse_prefill: bool = False
    measure_error: float = 0.0


def parse_attention(config: Any) -> AttentionConfig:
    """An attention config from YAML: a list of maskers, or a mapping of `maskers` and what else is to be said;
    SweepError says what is wrong.
    """
    if not isinstance(config, dict):
        return AttentionConfig(_chain(config))
    options = dict(checked_mapping(config))
    maskers = options.pop("maskers", None)
    valid = [field.name for field in dataclasses.fields(_AttentionOptions)]
    for key in options:
        if key not in valid:
            remedy = "maskers are named in a list of maskers such as [{sink: 4}, {local: 64}]"
            raise SweepError(f"{unknown_name('key', key, ('maskers', *valid))}; {remedy}")
    chosen: _AttentionOptions = catalog.from_mapping(_AttentionOptions, options, "key")
    with within("maskers"):
        chain = _chain(maskers)
    return AttentionConfig(chain, chosen.sparse_prefill, chosen.measure_error)


def _chain(items: Any) -> Chain:
    if items is None:
        return ()
    if not isinstance(items, list):
        raise SweepError("must be a list of maskers such as [{sink: 4}, {local: 64}], or empty for dense attention")
    return tuple(_masker(index, item) for index, item in enumerate(items))


def _masker(index: int, item: Any) -> Any:
    with within(str(index)):
        if not isinstance(item, dict) or len(item) != 1:
            raise SweepError("must be one masker such as {sink: 4}")
        name, options = next(iter(item.items()))
        cls = catalog.resolve("masker", name)
        with within(name):
            if not isinstance(options, dict):
                first = dataclasses.fields(cls)[0].name
                options = {first: options}
            return catalog.build("masker", name, options)
