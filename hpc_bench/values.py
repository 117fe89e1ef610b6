"""The values that travel between modules: what is asked of a model, what it answered, how well."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from itertools import islice
from types import MappingProxyType
from typing import Any, Literal, TypeAlias, TypeVar

__all__ = [
    "LATER",
    "PROMPT_CLOCK",
    "Answer",
    "AnswerPlace",
    "Asked",
    "Generation",
    "HubRepo",
    "Json",
    "Metric",
    "ModelOptions",
    "PromptForm",
    "Request",
    "Sample",
    "Scores",
    "Truncation",
    "plain_options",
]

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

Truncation: TypeAlias = Literal["middle", "left", "right"]
"""What a prompt that is too long loses: the middle, the beginning (left), or the end of the context (right)."""

AnswerPlace: TypeAlias = Literal["user", "assistant"]
"""Where a chat prompt has the answer prefix: at the end of the user's message, or behind the assistant's marker."""

PROMPT_CLOCK = "2024-07-26"
"""The day that every chat template is told, since today's would make a sweep's prompts change overnight. It is Llama
3.1's own default, and part of each fingerprint."""

LATER: Mapping[str, Json] = MappingProxyType({"later": True})
"""Marks a key of the sweep that came after the first ones: left out of the fingerprint where it has its default, so
that results made before there was such a key stay valid."""


def plain_options(section: Any) -> dict[str, Json]:
    """A dataclass of options as plain data; the later keys (`LATER`) only where they say something."""
    options: dict[str, Json] = {}
    for field_ in fields(section):
        value = getattr(section, field_.name)
        if not field_.metadata.get("later") or value != field_.default:
            options[field_.name] = list(value) if isinstance(value, tuple) else value
    return options


@dataclass(frozen=True)
class PromptForm:
    """How the texts of a sample become the token ids of its prompt."""

    answer_prefix: AnswerPlace = "assistant"
    """Without a chat template both give the same prompt; a template that opens a thought always means `user`."""
    encode: Literal["whole", "parts"] = "whole"
    """whole: the ids of the whole prompt, as its authors' scripts encode it; parts: context and question apart."""
    is_explicit: bool = False
    """Whether the sweep names `answer_prefix`: an `assistant` that a template rules out is an error then."""


@dataclass(frozen=True)
class Sample:
    """One question about one context; samples that share a context also share its prefill."""

    sample_id: str
    context: str
    question: str
    references: tuple[str, ...]
    max_new_tokens: int
    """The benchmark's limit; see `Generation.limit`."""
    answer_prefix: str = ""
    """Text that the answer continues; `PromptForm.answer_prefix` says where a chat prompt has it."""
    task: str = ""
    chat: bool = True
    """Whether the prompt goes through the model's chat template, where it has one."""
    stop_strings: tuple[str, ...] = ()
    min_new_tokens: int = 0
    """Before these, neither the end of the text nor a stop string ends the answer; the sweep may raise it."""
    extra: Mapping[str, Json] = field(default_factory=dict)
    """The benchmark's own columns of raw_results.csv."""
    cut_tokens: int = 0
    """Tokens that `context` lost because of max_context_length; a benchmark leaves this alone."""
    form: PromptForm = PromptForm()
    """Set from the sweep when the sample is asked; a benchmark leaves this alone, too."""


@dataclass(frozen=True)
class Generation:
    """How answers are decoded; the keys of `generation_kwargs`. Greedy unless `do_sample`, or the model says so."""

    max_new_tokens: int | None = None
    """None: the benchmark's limit."""
    min_new_tokens: int = 0
    do_sample: bool = False
    temperature: float = 1.0
    top_k: int = 0
    """0: off."""
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    stop_strings: tuple[str, ...] = ()
    seed: int = 0
    """Each sample draws from its own stream, seeded with this and its sample id."""
    override_limits: bool = field(default=False, metadata=LATER)
    """max_new_tokens stands in the place of the benchmark's limit, instead of only lowering it."""
    enable_thinking: bool | None = field(default=None, metadata=LATER)
    """Passed to the chat template; None: the template's own default."""
    from_model: bool = False
    """Takes the model's own generation_config, but for its limits of length; any other key that differs from its
    default replaces the model's."""

    def limit(self, benchmarks_own: int) -> int:
        """How many new tokens an answer may have at most, where the benchmark allows `benchmarks_own`."""
        if self.max_new_tokens is None:
            return benchmarks_own
        return self.max_new_tokens if self.override_limits else min(self.max_new_tokens, benchmarks_own)

    def __post_init__(self) -> None:
        if self.override_limits and self.max_new_tokens is None:
            raise ValueError("override_limits has no effect without max_new_tokens; add it, or leave both out")
        if self.max_new_tokens is not None and self.max_new_tokens < 1:
            raise ValueError("max_new_tokens must be at least 1")
        if self.min_new_tokens < 0 or self.top_k < 0:
            raise ValueError("min_new_tokens and top_k must be at least 0")
        if not self.temperature > 0 or not self.repetition_penalty > 0:
            raise ValueError("temperature and repetition_penalty must be above 0")
        if not 0 < self.top_p <= 1 or not 0 <= self.min_p <= 1:
            raise ValueError("top_p must be in (0, 1] and min_p in [0, 1]")
        sampling = (self.temperature, self.top_k, self.top_p, self.min_p) != (1.0, 0, 1.0, 0.0)
        if sampling and not self.do_sample and not self.from_model:
            raise ValueError("temperature, top_k, top_p and min_p have no effect without do_sample: true")


@dataclass(frozen=True)
class Answer:
    """What a model said to one sample, and what it cost."""

    text: str
    """From the opening think tag on, also where the chat template has printed it."""
    tokens_in: int
    """Prompt tokens: context, question and template."""
    tokens_out: int
    cut_tokens: int
    """Context tokens left out because of max_context_length."""
    seconds: float
    """Question pass and decoding; without the prefill, which is shared."""
    prefill_s: float
    """Of the shared prefill and what this config's maskers noted in it; repeated in each answer that used it."""
    density: float
    """Share of the visible keys that were attended, mean over layers, heads and steps; 1.0 is dense."""
    layer_density: tuple[float, ...] = ()
    """The same for each layer; empty: all as `density`."""
    prefill_density: float = 1.0
    """The same in the prefill."""
    attention_error: float | None = None
    """|sparse - dense| / |dense| of the attention output, mean over the passes where it was measured; None: none."""
    unshared_tokens: int = 0
    """Tokens before the sample's seam that the shared prefill lacks, and that were fed for this answer alone."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "layer_density", tuple(self.layer_density))  # a list, when read from JSON


@dataclass(frozen=True)
class Metric:
    """A named figure; `scale` is its best possible value, so that figures can be compared."""

    value: float
    scale: float = 100.0


@dataclass(frozen=True)
class Scores:
    """What a benchmark makes of a stub's answers."""

    score: float | None
    """The benchmark's headline, 0-100; None where the benchmark cannot be scored locally."""
    metrics: Mapping[str, Metric]
    per_sample: tuple[Mapping[str, float], ...]
    """One mapping a sample, in the order of the samples, the headline's score first; the columns of raw_results.csv."""
    by: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Scores of parts, by length bin, depth, difficulty, task."""
    note: str = ""
    files: Mapping[str, str] = field(default_factory=dict)
    """Files that the benchmark puts beside its result, by name: a table to send in, for example."""


T = TypeVar("T")


@dataclass(frozen=True)
class Asked:
    """Which samples of a subset are asked: the keys of `request_kwargs` of these names."""

    max_samples: int | None
    sample_order: Literal["first", "spread"]


@dataclass(frozen=True)
class Request:
    """`request_kwargs`: how much of a benchmark is asked."""

    max_context_length: int | None = None
    max_samples: int | None = None
    """That many samples of each subset."""
    truncation: Truncation | None = field(default=None, metadata=LATER)
    """What a prompt above max_context_length loses; None: the benchmark's own way."""
    sample_order: Literal["first", "spread"] = field(default="first", metadata=LATER)
    """Which max_samples: the first ones, or some evenly spread over the subset."""
    keep_context: bool = field(default=False, metadata=LATER)
    """raw_results.csv holds the contexts too; changes no answer, so results are complete with or without."""
    answer_prefix: AnswerPlace | None = None
    """Where chat prompts have the answer prefix; None: where the benchmark's authors put it."""
    encode: Literal["whole", "parts"] = "whole"
    """parts: context and question are encoded apart, as kvpress does; the ids differ from the whole prompt's."""

    def __post_init__(self) -> None:
        for name in ("max_context_length", "max_samples"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, or left out for no limit")
        if self.truncation and self.max_context_length is None:
            raise ValueError("truncation has no effect without max_context_length; add it, or leave both out")
        if self.sample_order != "first" and self.max_samples is None:
            raise ValueError("sample_order has no effect without max_samples; add it, or leave both out")

    @property
    def asked(self) -> Asked:
        """Which samples of each subset are asked."""
        return Asked(self.max_samples, self.sample_order)

    def choose(self, samples: Iterable[T]) -> list[T]:
        """Those of a subset's samples that are asked; takes no more from `samples` than it must."""
        if self.sample_order == "first" or self.max_samples is None:
            return list(islice(samples, self.max_samples and min(self.max_samples, sys.maxsize)))
        every = list(samples)
        count = min(self.max_samples, len(every))
        return [every[index * len(every) // count] for index in range(count)]


@dataclass(frozen=True)
class HubRepo:
    """What is needed of one repository on the hub."""

    kind: Literal["model", "dataset"]
    name: str
    revision: str
    """A branch, a tag or a commit."""
    config: str = ""
    """Of a data set: the configuration that is read."""
    split: str = "test"

    @property
    def title(self) -> str:
        """The repository on one line, as users name it."""
        config = f" ({self.config})" if self.config else ""
        return f"{'model' if self.kind == 'model' else 'data set'} {self.name}{config} at {self.revision}"


@dataclass(frozen=True)
class ModelOptions:
    """Everything an adapter needs to load a model."""

    source: str
    """A hub name or a local folder."""
    revision: str | None = None
    gpus: int = 1
    device: str = "auto"
    """auto: the slot's GPUs, the CPU only where the slot has none; cpu; cuda."""
    model_kwargs: Mapping[str, Json] = field(default_factory=dict)
    tokenizer_kwargs: Mapping[str, Json] = field(default_factory=dict)
    trust_remote_code: bool = False
    enable_thinking: bool | None = None
    """Passed to the chat template; None: the template's own default."""
    from_model: bool = False
    """Whether answers are decoded as the model's own generation_config says."""
