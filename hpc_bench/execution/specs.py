"""What a manifest says of each model, attention config and benchmark, once for all stubs that share it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

import pydantic

from hpc_bench.benchmarks.base import SubsetSize
from hpc_bench.execution.schema import Json
from hpc_bench.values import AnswerPlace, Generation, ModelOptions, Truncation

__all__ = ["AttentionSpec", "BenchmarkSpec", "Limits", "ModelSpec"]


@dataclass(frozen=True)
class ModelSpec:
    """A model, and how it is loaded."""

    __pydantic_config__: ClassVar[pydantic.ConfigDict] = pydantic.ConfigDict(extra="forbid")

    name: str
    """As the sweep names it."""
    source: str
    """A hub name or a local folder."""
    revision: str | None
    gpus: pydantic.NonNegativeInt
    adapter: str
    device: str
    model_kwargs: Mapping[str, Json]
    tokenizer_kwargs: Mapping[str, Json]
    trust_remote_code: bool
    identity: Json
    """What tells this model from others of its name: its revision, or a digest of its files."""
    adapter_version: int = 1
    adapter_code: str = ""
    """The digest of the adapter's code, where it is a plug-in's."""

    def options(self, generation: Generation | None = None) -> ModelOptions:
        """What an adapter loads it with, and what it must know of how answers are to be decoded."""
        wanted = generation or Generation()
        return ModelOptions(
            source=self.source,
            revision=self.revision,
            gpus=self.gpus,
            device=self.device,
            model_kwargs=self.model_kwargs,
            tokenizer_kwargs=self.tokenizer_kwargs,
            trust_remote_code=self.trust_remote_code,
            enable_thinking=wanted.enable_thinking,
            from_model=wanted.from_model,
        )


@dataclass(frozen=True)
class AttentionSpec:
    """A sparse attention config."""

    __pydantic_config__: ClassVar[pydantic.ConfigDict] = pydantic.ConfigDict(extra="forbid", allow_inf_nan=False)

    maskers: tuple[tuple[str, Mapping[str, Json]], ...]
    """Each masker of the chain by name, all parameters spelled out."""
    sparse_prefill: bool
    measure_error: Annotated[float, pydantic.Field(ge=0, le=1)]
    """The share of passes in which the attention error is measured, 0-1; not part of the identity."""
    identity: Json
    """{maskers: [{masker, version, code of a plug-in, parameters}], sparse_prefill, sparse_from, dense_layers}"""


@dataclass(frozen=True)
class BenchmarkSpec:
    """A benchmark with its options."""

    __pydantic_config__: ClassVar[pydantic.ConfigDict] = pydantic.ConfigDict(extra="forbid")

    kind: str
    """Its name in the catalog; another than the sweep's for data of one's own."""
    options: Mapping[str, Json]
    identities: Mapping[str, Mapping[str, Json]]
    """Subset, or "" where there is none -> its identity."""
    sizes: Mapping[str, SubsetSize] = field(default_factory=dict)
    """Subset, or "" -> the estimate that scheduling uses."""
    code: str = ""
    """The digest of its code, where it is a plug-in's."""
    truncation: Truncation | None = None
    """What a prompt loses that is too long, unless the sweep says so; None in manifests of the first versions."""
    answer_prefix: AnswerPlace | None = None
    """Where chat prompts have the answer prefix, unless the sweep says so; None in manifests of the first versions."""


@dataclass(frozen=True)
class Limits:
    """What an attempt may take, and how many there are."""

    __pydantic_config__: ClassVar[pydantic.ConfigDict] = pydantic.ConfigDict(extra="forbid", allow_inf_nan=False)

    stub_timeout_s: pydantic.PositiveFloat
    max_attempts: pydantic.PositiveInt
    lease_s: pydantic.PositiveFloat
