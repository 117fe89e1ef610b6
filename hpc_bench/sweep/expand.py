"""From a sweep to its stubs, every name resolved and every parameter checked, before any model is loaded."""

from __future__ import annotations

import dataclasses
import getpass
import platform
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from importlib.metadata import version

from hpc_bench import catalog
from hpc_bench.adapters.model_source import find_model
from hpc_bench.attention.base import AttentionConfig, Masker
from hpc_bench.attention.model_shape import ModelShape, read_shape
from hpc_bench.errors import DatasetError, SweepError, within
from hpc_bench.execution.credentials import redact_command
from hpc_bench.execution.fingerprint import FingerprintMaker
from hpc_bench.execution.folder import RESERVED, sanitize
from hpc_bench.execution.header import Header
from hpc_bench.execution.manifest import Manifest
from hpc_bench.execution.specs import AttentionSpec, BenchmarkSpec, Limits, ModelSpec
from hpc_bench.sweep.patterns import stub_filter
from hpc_bench.sweep.pin import pin_sweep
from hpc_bench.sweep.sweep import BenchmarkEntry, Sweep
from hpc_bench.values import Json, plain_options

__all__ = ["expand_sweep"]


def expand_sweep(sweep: Sweep) -> Manifest:
    """All stubs of a sweep: model > attention > benchmark > subset, less the excluded ones."""
    if sweep.offline:
        sweep = pin_sweep(sweep)
    header = _header(sweep)
    make = FingerprintMaker(header).stub
    combinations = (
        (title, attention, entry.name, subset)
        for title in header.models
        for attention in header.attentions
        for entry in sweep.benchmarks
        for subset in entry.subsets
    )
    wanted = stub_filter(sweep, {title: model.name for title, model in header.models.items()})
    stubs = tuple(make(*combination) for combination in combinations if wanted(*combination))
    if not stubs:
        raise SweepError("leave no stub to run; loosen the patterns", "include/exclude")
    return Manifest(header, stubs)


def _header(sweep: Sweep) -> Header:
    models = _model_specs(sweep)
    _check_fit(sweep, models)
    return Header(
        name=sweep.name,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        models=models,
        attentions=_attention_specs(sweep),
        benchmarks=_benchmark_specs(sweep),
        generation=sweep.generation,
        request=sweep.request,
        limits=Limits(sweep.limits.stub_timeout_s, sweep.limits.max_attempts, sweep.limits.lease_s),
        max_concurrent_runs=sweep.max_concurrent_runs,
        offline=sweep.offline,
        baseline=sweep.baseline,
        provenance=_provenance(),
    )


def _model_specs(sweep: Sweep) -> dict[str, ModelSpec]:
    models: dict[str, ModelSpec] = {}
    for title, model in _models(sweep):
        if title in models:
            both = f"{models[title].name!r} and {model.name!r}"
            raise SweepError(f"{both} are one model, named twice", "model_names")
        models[title] = model
    _refuse_same_folder("model_names", models)
    return models


def _attention_specs(sweep: Sweep) -> dict[str, AttentionSpec]:
    _refuse_same_folder("sparse_attention_configs", sweep.attentions)
    return {name: _attention_spec(attention) for name, attention in sweep.attentions.items()}


def _attention_spec(attention: AttentionConfig) -> AttentionSpec:
    named = [(catalog.name_of("masker", type(masker)), masker) for masker in attention.chain]
    identity: Json = {
        "maskers": [_masker_identity(name, masker) for name, masker in named],
        "sparse_prefill": attention.sparse_prefill,
        "sparse_from": "question",
        "dense_layers": [],
    }
    return AttentionSpec(
        maskers=tuple((name, dataclasses.asdict(masker)) for name, masker in named),
        sparse_prefill=attention.sparse_prefill,
        measure_error=attention.measure_error,
        identity=identity,
    )


def _masker_identity(name: str, masker: Masker) -> dict[str, Json]:
    code = catalog.code_of("masker", name)
    identity: dict[str, Json] = {"masker": name, "version": masker.version, "parameters": masker.identity()}
    return {**identity, "plugin_code": code} if code else identity


def _check_fit(sweep: Sweep, models: Mapping[str, ModelSpec]) -> None:
    """SweepError if a masker, or a file that it names, does not fit a model whose sizes are known here."""
    shapes = {title: read_shape(model.source, model.revision) for title, model in models.items()}
    for name, attention in sweep.attentions.items():
        for masker in attention.chain:
            for title, shape in shapes.items():
                kind = catalog.name_of("masker", type(masker))
                with within("sparse_attention_configs", name, kind):
                    _check_model(masker, title, shape)


def _check_model(masker: Masker, title: str, shape: ModelShape | None) -> None:
    try:
        if shape:
            masker.check_model(shape)
    except ValueError as error:
        raise ValueError(f"cannot be used with {title}: {error}") from error


def _benchmark_specs(sweep: Sweep) -> dict[str, BenchmarkSpec]:
    leaves = ((entry.name, subset) for entry in sweep.benchmarks for subset in entry.subsets)
    titles = (name if subset is None else f"{name}/{subset}" for name, subset in leaves)
    _refuse_same_folder("benchmark_configs", titles, separator="/")
    return {entry.name: _benchmark_spec(entry) for entry in sweep.benchmarks}


def _benchmark_spec(entry: BenchmarkEntry) -> BenchmarkSpec:
    with within("benchmark_configs", entry.name):
        try:
            entry.benchmark.check_data(entry.subsets)
        except DatasetError as error:
            raise SweepError(str(error)) from error
        return BenchmarkSpec(
            kind=entry.kind,
            options=plain_options(entry.benchmark),
            identities={subset or "": entry.benchmark.identity(subset) for subset in entry.subsets},
            sizes={subset or "": entry.benchmark.size(subset) for subset in entry.subsets},
            code=catalog.code_of("benchmark", entry.kind),
            truncation=entry.benchmark.truncation,
            answer_prefix=entry.benchmark.answer_prefix,
        )


def _models(sweep: Sweep) -> Iterator[tuple[str, ModelSpec]]:
    adapter = sweep.adapter
    adapter_class = catalog.resolve("adapter", adapter.adapter_name)
    for index, entry in enumerate(sweep.models):
        with within("model_names", str(index)):
            found = find_model(entry.name, entry.revision, sweep.folder)
            model = ModelSpec(
                name=entry.name,
                source=found.source,
                revision=entry.revision,
                gpus=entry.gpus,
                adapter=adapter.adapter_name,
                device=adapter.device,
                model_kwargs={**adapter.model_kwargs, **entry.model_kwargs},
                tokenizer_kwargs=adapter.tokenizer_kwargs,
                trust_remote_code=entry.trust_remote_code,
                identity=found.identity,
                adapter_version=adapter_class.version,
                adapter_code=catalog.code_of("adapter", adapter.adapter_name),
            )
            adapter_class.check_options(model.options())
        yield found.title, model


def _refuse_same_folder(key: str, names: Iterable[str], separator: str = "") -> None:
    taken: dict[str, str] = {}
    for name in names:
        folder = sanitize(name.replace(separator, "_") if separator else name)
        if folder in taken:
            raise SweepError(f"{taken[folder]!r} and {name!r} would share the folder {folder!r}; rename one", key)
        if RESERVED.fullmatch(folder):
            raise SweepError(f"{name!r} is the name of a file of the execution; rename it", key)
        taken[folder] = name


def _provenance() -> dict[str, Json]:
    packages: dict[str, Json] = {}
    for name in ("hpc-bench", "torch", "transformers", "datasets", "submitit"):
        packages[name] = version(name)
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's uid without a name
        user = ""
    return {
        "command": shlex.join(redact_command(sys.argv)),
        "host": platform.node(),
        "user": user,
        "python": platform.python_version(),
        "packages": packages,
    }
