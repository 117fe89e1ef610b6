"""The header of a manifest: what its stubs share, and what each stub's fingerprint is made of."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hpc_bench import catalog
from hpc_bench.attention.base import AttentionConfig
from hpc_bench.benchmarks.base import Benchmark
from hpc_bench.errors import DatasetError, ExecutionError
from hpc_bench.execution.stub import Stub
from hpc_bench.files import to_json
from hpc_bench.options import from_mapping
from hpc_bench.values import Generation, Json, Request

__all__ = ["FORMAT_VERSION", "Header"]

FORMAT_VERSION = 1
_CHANGES_NOTHING = ("keep_context",)
"""Keys of `request` that cannot change an answer."""


@dataclass(frozen=True)
class Header:
    """What the stubs of a manifest share; each model, config and benchmark stands here once."""

    name: str
    created: str
    models: Mapping[str, dict[str, Any]]
    """title -> {name, source, revision, gpus, adapter, device, *_kwargs, trust_remote_code, identity}"""
    attentions: Mapping[str, dict[str, Any]]
    """name -> {maskers: [[masker, {parameter: value}], ...] with all defaults spelled out, sparse_prefill,
    measure_error, identity}"""
    benchmarks: Mapping[str, dict[str, Any]]
    """name -> {kind: its name in the catalog, options, truncation, identities: {subset or "": identity},
    sizes: {subset or "": estimate}}"""
    generation: dict[str, Any]
    """Both without the later keys (`values.LATER`) that have their default; `decoding` and `asking` fill them in."""
    request: dict[str, Any]
    limits: dict[str, Any]
    max_concurrent_runs: int | None
    provenance: dict[str, Json]
    forgiven: Mapping[str, int] = field(default_factory=dict)
    """stub key -> attempts that do not count towards max_attempts any more (--retry-failed)"""
    measured: Mapping[str, float] = field(default_factory=dict)
    """"model/benchmark/subset" -> mean seconds of the stubs of that bundle that are complete"""
    offline: bool = False
    """Engines must not ask a hub."""
    baseline: str = ""
    """The attention config that results are compared with; empty: the sweep names none."""
    format_version: int = FORMAT_VERSION

    def identity_parts(self, model: str, attention: str, benchmark: str, subset: str | None) -> dict[str, str]:
        """The parts of a stub's identity, each as canonical JSON."""
        entry = self.models[model]
        keys = ("adapter", "model_kwargs", "tokenizer_kwargs", "trust_remote_code")
        return {
            "adapter": to_json({key: entry[key] for key in keys}),
            "attention": to_json(self.attentions[attention]["identity"]),
            "benchmark": to_json({"name": benchmark, **self.benchmarks[benchmark]["identities"][subset or ""]}),
            "format": str(FORMAT_VERSION),
            "generation": to_json(self.generation),
            "model": to_json(entry["identity"]),
            "request": to_json(self._request_identity(benchmark)),
            "subset": to_json(subset),
        }

    def _request_identity(self, benchmark: str) -> dict[str, Json]:
        """With the way in which prompts are cut, where they are, also where the sweep leaves it to the benchmark."""
        request = {key: value for key, value in self.request.items() if key not in _CHANGES_NOTHING}
        own = self.benchmarks[benchmark].get("truncation")  # earlier manifests say nothing of it
        if request["max_context_length"] is None or own is None:
            return request
        return {"truncation": own, **request}

    def identity(self, stub: Stub) -> dict[str, Json]:
        """What the stub's fingerprint is the digest of."""
        parts = self.identity_parts(stub.model, stub.attention, stub.benchmark, stub.subset)
        return {key: json.loads(text) for key, text in parts.items()}

    def attention(self, name: str) -> AttentionConfig:
        """A sparse attention config."""
        entry = self.attentions[name]
        maskers = tuple(catalog.build("masker", masker, options) for masker, options in entry["maskers"])
        return AttentionConfig(maskers, entry["sparse_prefill"], entry["measure_error"])

    def measure_error(self, name: str) -> float:
        """In which share of the passes a config's error is measured."""
        return float(self.attentions[name]["measure_error"])

    def refuse_changed_files(self, name: str) -> None:
        """ExecutionError if a file that a config's maskers name is not the one that was planned with."""
        entry = self.attentions[name]
        planned = entry["identity"]["maskers"] if entry["sparse_prefill"] else entry["identity"]
        for masker, (kind, identity) in zip(self.attention(name).chain, planned, strict=True):
            if masker.files and to_json(masker.identity()) != to_json(identity):
                raise ExecutionError(
                    f"a file of {name}'s {kind} has changed since the sweep was planned; submit it again"
                )

    def refuse_changed_data(self, name: str, subset: str | None) -> None:
        """DatasetError if a subset is not asked as it was planned: its results would not be what they say."""
        entry = self.benchmarks[name]
        cut_in_the_earlier_way = self.request["max_context_length"] is not None and "truncation" not in entry
        same = to_json(self.benchmark(name).identity(subset)) == to_json(entry["identities"][subset or ""])
        if cut_in_the_earlier_way or not same:
            raise DatasetError(
                f"{name} {subset or ''}: the data, or hpc-bench itself, has changed since the sweep was planned; "
                "submit it again"
            )

    def benchmark(self, name: str) -> Benchmark:
        """The benchmark with its options."""
        entry = self.benchmarks[name]
        kind = entry.get("kind", name)  # earlier manifests knew of no other name
        return catalog.build("benchmark", kind, entry["options"])  # type: ignore[no-any-return]

    def decoding(self) -> Generation:
        """How answers are decoded."""
        return from_mapping(Generation, self.generation, "key")  # type: ignore[no-any-return]

    def asking(self) -> Request:
        """How much of a benchmark is asked."""
        return from_mapping(Request, self.request, "key")  # type: ignore[no-any-return]
