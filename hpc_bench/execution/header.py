"""The header of a manifest: what its stubs share, each model, attention config and benchmark once."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pydantic

from hpc_bench import catalog
from hpc_bench.attention.base import AttentionConfig
from hpc_bench.benchmarks.base import Benchmark
from hpc_bench.errors import DatasetError, ExecutionError
from hpc_bench.execution.schema import Json, Name, parse_as
from hpc_bench.execution.specs import AttentionSpec, BenchmarkSpec, Limits, ModelSpec
from hpc_bench.files import to_json
from hpc_bench.values import Generation, PromptForm, Request, plain_options

__all__ = ["FORMAT_VERSION", "Header", "parse_header"]

FORMAT_VERSION = 2
"""Of manifests and of identities. 1: until prompts were encoded whole and code had versions."""


@dataclass(frozen=True)
class Header:
    """What the stubs of a manifest share."""

    __pydantic_config__: ClassVar[pydantic.ConfigDict] = pydantic.ConfigDict(extra="forbid", allow_inf_nan=False)

    name: str
    created: str
    models: Mapping[Name, ModelSpec]
    """Title -> model."""
    attentions: Mapping[Name, AttentionSpec]
    """Name -> sparse attention config."""
    benchmarks: Mapping[Name, BenchmarkSpec]
    """Name -> benchmark."""
    generation: Generation
    request: Request
    limits: Limits
    max_concurrent_runs: int | None
    provenance: Mapping[str, Json]
    forgiven: Mapping[str, int] = field(default_factory=dict)
    """Stub key -> attempts that do not count towards max_attempts any more (--retry-failed)."""
    measured: Mapping[str, float] = field(default_factory=dict)
    """"model/benchmark/subset" -> mean seconds of the stubs of that bundle that are complete."""
    offline: bool = False
    """Engines must not ask a hub."""
    baseline: str = ""
    """The attention config that results are compared with; empty: the sweep names none."""
    format_version: int = FORMAT_VERSION

    def as_json(self) -> dict[str, Json]:
        """As it stands in a manifest, names in the order of the sweep."""
        sections: dict[str, Json] = {
            "generation": plain_options(self.generation),
            "request": plain_options(self.request),
        }
        return {**dataclasses.asdict(self), **sections}

    def attention(self, name: str) -> AttentionConfig:
        """A sparse attention config."""
        spec = self.attentions[name]
        maskers = tuple(catalog.build("masker", masker, options) for masker, options in spec.maskers)
        return AttentionConfig(maskers, spec.sparse_prefill, spec.measure_error)

    def benchmark(self, name: str) -> Benchmark:
        """The benchmark with its options."""
        spec = self.benchmarks[name]
        return catalog.build("benchmark", spec.kind, spec.options)  # type: ignore[no-any-return]

    def prompt_form(self, name: str) -> PromptForm:
        """How the prompts of a benchmark are put together: as the sweep says, else as its authors do."""
        asked = self.request.answer_prefix
        # A thought comes first, for which a prefix behind the assistant's marker would leave no room.
        own = "user" if self.generation.enable_thinking else self.benchmarks[name].answer_prefix or "assistant"
        return PromptForm(asked or own, self.request.encode, is_explicit=asked is not None)

    def refuse_changed_adapter(self, model: str) -> None:
        """ExecutionError if the adapter of a model is not the one that was planned with."""
        spec = self.models[model]
        present = catalog.resolve("adapter", spec.adapter).version, catalog.code_of("adapter", spec.adapter)
        if present != (spec.adapter_version, spec.adapter_code):
            raise ExecutionError(
                f"the code of the adapter {spec.adapter} has changed since the sweep was planned; submit it again"
            )

    def refuse_changed_files(self, name: str) -> None:
        """ExecutionError if a file that a config's maskers name is not the one that was planned with."""
        planned: Any = self.attentions[name].identity
        for masker, identity in zip(self.attention(name).chain, planned["maskers"], strict=True):
            kind = identity["masker"]
            if to_json(masker.identity()) != to_json(identity["parameters"]):
                raise ExecutionError(
                    f"a file of {name}'s {kind} has changed since the sweep was planned; submit it again"
                )
            is_planned = masker.version == identity["version"]
            if not is_planned or catalog.code_of("masker", kind) != identity.get("plugin_code", ""):
                raise ExecutionError(f"the code of {kind} has changed since the sweep was planned; submit it again")

    def refuse_changed_data(self, name: str, subset: str | None) -> None:
        """DatasetError if a subset is not asked as it was planned: its results would not be what they say."""
        spec = self.benchmarks[name]
        same = to_json(self.benchmark(name).identity(subset)) == to_json(spec.identities[subset or ""])
        if not same or catalog.code_of("benchmark", spec.kind) != spec.code:
            raise DatasetError(
                f"{name} {subset or ''}: the data, or hpc-bench itself, has changed since the sweep was planned; "
                "submit it again"
            )


def parse_header(data: Mapping[str, Any]) -> Header:
    """A header as any version of this program wrote it; ValueError names the key that is wrong."""
    translated = {
        **data,
        "attentions": {name: _attention_entry(entry) for name, entry in data["attentions"].items()},
        "benchmarks": {name: {"kind": name, **entry} for name, entry in data["benchmarks"].items()},
    }
    return parse_as(Header, to_json(translated, sort_keys=False))


def _attention_entry(entry: Any) -> Any:
    """An entry of `attentions`; the first manifests held the bare maskers."""
    if isinstance(entry, dict):
        return entry
    return {"maskers": entry, "sparse_prefill": False, "measure_error": 0.0, "identity": entry}
