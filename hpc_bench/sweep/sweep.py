"""What the user asks for: a sweep file, or the same keys as arguments, checked as far as can be without the disk."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from hpc_bench import catalog
from hpc_bench.attention.base import AttentionConfig
from hpc_bench.benchmarks.base import Benchmark
from hpc_bench.benchmarks.metrics.named import METRICS
from hpc_bench.errors import SweepError, in_file, unknown_name, within
from hpc_bench.execution.credentials import refuse_secrets
from hpc_bench.options import from_mapping, with_paths
from hpc_bench.sweep.attention_config import parse_attention
from hpc_bench.sweep.plain_yaml import UnclearError, load_yaml
from hpc_bench.sweep.reading import (
    checked_mapping,
    checked_name,
    folder_at,
    folder_of,
    list_at,
    positive_at,
    read_yaml,
    refuse_twice,
    section_at,
    switch_at,
    text_at,
)
from hpc_bench.sweep.sections import AdapterSection, LimitsSection, LocalSection, ModelEntry, Pattern
from hpc_bench.sweep.slurm_section import SlurmSection, parse_slurm_section
from hpc_bench.values import Generation, Request

__all__ = ["BenchmarkEntry", "Sweep", "load_sweep", "parse_sweep"]


@dataclass(frozen=True)
class BenchmarkEntry:
    """One benchmark with its options and the subsets to run; `(None,)` where it has none."""

    name: str
    benchmark: Benchmark
    subsets: tuple[str | None, ...]
    kind: str
    """Its name in the catalog; another than `name` for data of one's own."""


@dataclass(frozen=True)
class Sweep:
    """A checked sweep: every name resolved, every parameter valid."""

    name: str
    models: tuple[ModelEntry, ...]
    attentions: Mapping[str, AttentionConfig]
    benchmarks: tuple[BenchmarkEntry, ...]
    folder: Path = Path()
    """In which its file lies, and relative paths in it begin."""
    base_result_dir: Path = Path("results")
    adapter: AdapterSection = field(default_factory=AdapterSection)
    generation: Generation = field(default_factory=Generation)
    request: Request = field(default_factory=Request)
    limits: LimitsSection = field(default_factory=LimitsSection)
    local: LocalSection = field(default_factory=LocalSection)
    slurm: SlurmSection = field(default_factory=SlurmSection)
    has_slurm_section: bool = False
    """Whether it says how jobs are asked for; the command line must then say where it is to run."""
    exclude: tuple[Pattern, ...] = ()
    include: tuple[Pattern, ...] = ()
    max_concurrent_runs: int | None = None
    offline: bool = False
    """Jobs reach no hub: everything must be in the local cache before they start."""
    baseline: str = ""
    """The attention config that results are compared with; empty: `dense`, if there is one."""
    file: str = ""
    """Where it was read from, for error messages."""


_SECTIONS: Mapping[str, tuple[str, type[Any]]] = {
    "adapter_config": ("adapter", AdapterSection),
    "generation_kwargs": ("generation", Generation),
    "request_kwargs": ("request", Request),
    "limits": ("limits", LimitsSection),
    "local": ("local", LocalSection),
}
OWN_DATA = "own_data"
KEYS = (
    "name",
    "base_result_dir",
    "model_names",
    "sparse_attention_configs",
    "benchmark_configs",
    *_SECTIONS,
    "slurm",
    "exclude",
    "include",
    "max_concurrent_runs",
    "offline",
    "baseline",
)


def load_sweep(path: Path, changes: Sequence[str] = ()) -> Sweep:
    """The sweep in a YAML file, with `changes` such as slurm.partition=long put over it (--set); SweepError names
    the file, the key and the remedy.
    """
    data = {"name": path.stem, **read_yaml(path)}
    for change in changes:
        _put(data, change)
    with in_file(str(path)):
        return dataclasses.replace(parse_sweep(data, folder_of(path)), file=str(path))


def _put(data: dict[str, Any], change: str) -> None:
    """Sets one key of the sweep, which may lie in mappings; the value is read as YAML."""
    place, sign, text = change.partition("=")
    keys = place.strip().split(".")
    if not sign or not all(keys):
        raise SweepError(f"{change!r} is not of the form key=value or section.key=value", "--set")
    with within("--set"):
        refuse_secrets(_nested(keys, text))  # before an error of YAML could quote it
    with within("--set", place):
        value = _value_of(text)
        for key in keys[:-1]:
            if data.get(key) is None:
                data[key] = {}
            data = data[key]
            if not isinstance(data, dict):
                raise SweepError(f"{key} is no mapping, so nothing in it can be set")
        data[keys[-1]] = value


def _nested(keys: Sequence[str], value: Any) -> Any:
    return {keys[0]: _nested(keys[1:], value)} if keys else value


def _value_of(text: str) -> Any:
    try:
        return load_yaml(text)
    except UnclearError as error:
        hint = "in a shell, protect the quotes: --set 'KEY=\"VALUE\"'"
        raise UnclearError(f"{error.args[0]}; {hint}", *error.path) from error


def parse_sweep(data: Mapping[str, Any], folder: Path = Path()) -> Sweep:
    """A sweep from plain data with the keys of a sweep file, which lies in `folder`; SweepError names the key and
    the remedy.
    """
    refuse_secrets(data)  # before anything that would quote a value
    for key in data:
        if key not in KEYS:
            raise SweepError(unknown_name("key", key, KEYS))
    sections: dict[str, Any] = {}
    for key, (attribute, cls) in _SECTIONS.items():
        options = section_at(data, key)
        with within(key):
            sections[attribute] = from_mapping(cls, options, "key")
    _refuse_prefix_before_thought(sections["generation"], sections["request"])
    attentions = _attentions(data, folder)
    return Sweep(
        name=text_at(data, "name"),
        folder=folder,
        base_result_dir=folder_at({"base_result_dir": "results", **data}, "base_result_dir"),
        models=_models(data, sections["adapter"]),
        attentions=attentions,
        benchmarks=_benchmarks(data, folder),
        slurm=_slurm(data, folder),
        has_slurm_section=data.get("slurm") is not None,
        exclude=_patterns(data, "exclude"),
        include=_patterns(data, "include"),
        max_concurrent_runs=positive_at(data, "max_concurrent_runs"),
        offline=switch_at(data, "offline"),
        baseline=_baseline(data, attentions),
        **sections,
    )


def _refuse_prefix_before_thought(generation: Generation, request: Request) -> None:
    if generation.enable_thinking and request.answer_prefix == "assistant":
        raise SweepError(
            "cannot be assistant with generation_kwargs.enable_thinking: true, since the answer would begin with the "
            "prefix and not with a thought; set it to user, or leave it out",
            "request_kwargs.answer_prefix",
        )


def _models(data: Mapping[str, Any], adapter: AdapterSection) -> tuple[ModelEntry, ...]:
    with within("adapter_config", "adapter_name"):
        catalog.resolve("adapter", adapter.adapter_name)
    models = []
    for index, item in enumerate(list_at(data, "model_names", "model names")):
        with within("model_names", str(index)):
            if isinstance(item, str):
                item = {"name": item}
            models.append(from_mapping(ModelEntry, checked_mapping(item), "key"))
    refuse_twice([model.name for model in models], "model_names")
    return tuple(models)


def _attentions(data: Mapping[str, Any], folder: Path) -> dict[str, AttentionConfig]:
    with within("sparse_attention_configs"):
        configs = checked_mapping(data.get("sparse_attention_configs", {"dense": None}))
        if not configs:
            raise SweepError("is empty; name at least one config, such as `dense:`")
        attentions = {}
        for name, config in configs.items():
            with within(checked_name(name)):
                attentions[name] = parse_attention(config, folder)
        return attentions


def _benchmarks(data: Mapping[str, Any], folder: Path) -> tuple[BenchmarkEntry, ...]:
    with within("benchmark_configs"):
        configs = checked_mapping(data.get("benchmark_configs") or {})
        if not configs:
            raise SweepError("is missing or empty; name at least one benchmark, such as `mock_benchmark:`")
        return tuple(_benchmark(name, options, folder) for name, options in configs.items())


def _benchmark(name: Any, options: Any, folder: Path) -> BenchmarkEntry:
    kind = _benchmark_kind(name, options)
    with within(name):
        if options is None or isinstance(options, list):
            options = {"subsets": options}
        options = dict(checked_mapping(options))
        asked = options.pop("subsets", None)
        options = with_paths(catalog.resolve("benchmark", kind), options, folder)
        benchmark: Benchmark = catalog.build("benchmark", kind, options)
        if asked is None:
            return BenchmarkEntry(name, benchmark, benchmark.subsets or (None,), kind)
        return BenchmarkEntry(name, benchmark, tuple(_subsets(benchmark, asked)), kind)


def _benchmark_kind(name: Any, options: Any) -> str:
    """The benchmark's name in the catalog; a new name with a `metric` is that of data of one's own."""
    known = catalog.names("benchmark")
    if name in known:
        return str(name)
    given = options if isinstance(options, dict) else {}
    if "metric" in given:
        checked_name(name)
        return OWN_DATA
    if "data" in given and not get_close_matches(str(name), known, n=1):
        raise SweepError(f"metric is missing (valid: {', '.join(METRICS)})", str(name))
    raise SweepError(f"{unknown_name('benchmark', name, known)}, or give data and metric for rows of your own")


def _subsets(benchmark: Benchmark, asked: Any) -> Iterator[str]:
    with within("subsets"):
        if not isinstance(asked, list) or not asked:
            raise SweepError("must be a list of at least one subset, or left out for all of them")
        names = []
        for item in asked:
            if isinstance(item, bool) or not isinstance(item, (str, int)) or not str(item).isprintable():
                raise SweepError(f"{item!r} is not the name of a subset")
            names.append(benchmark.check_subset(str(item)))
        refuse_twice(names)
        yield from names


def _patterns(data: Mapping[str, Any], key: str) -> tuple[Pattern, ...]:
    if data.get(key) is None:
        return ()
    patterns = []
    for index, item in enumerate(list_at(data, key, "patterns such as {model: '*Phi*'}")):
        with within(key, str(index)):
            if not item:
                raise SweepError("is empty, and would match every stub")
            patterns.append(from_mapping(Pattern, checked_mapping(item), "key"))
    return tuple(patterns)


def _slurm(data: Mapping[str, Any], folder: Path) -> SlurmSection:
    section = section_at(data, "slurm")
    with within("slurm"):
        return parse_slurm_section(section, folder)


def _baseline(data: Mapping[str, Any], attentions: Mapping[str, AttentionConfig]) -> str:
    value = data.get("baseline")
    if value is not None and not isinstance(value, str):
        raise SweepError("must be one name, that of a sparse attention config", "baseline")
    if value is not None and value not in attentions:
        raise SweepError(unknown_name("sparse attention config", value, attentions), "baseline")
    return value or ""
