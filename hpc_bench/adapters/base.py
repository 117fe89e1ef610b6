"""What a model adapter is: load once, prefill a context once, answer questions about it under many attentions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from hpc_bench.attention.base import AttentionConfig
from hpc_bench.benchmarks.base import PromptTokens, prompt_tokens
from hpc_bench.values import Answer, Generation, Json, ModelOptions, Sample, Truncation

__all__ = ["AdapterError", "DeviceError", "ModelAdapter", "Prefill", "kept_tokens"]


class AdapterError(Exception):
    """A model cannot be loaded or asked as the sweep wants; the message says why. Recorded as a failure."""


class DeviceError(AdapterError):
    """The device itself does not work: another model would fail on it just the same."""


@dataclass(frozen=True)
class Prefill:
    """What prompts about one context share, read once; serves any number of answers, in any order, and is not changed
    by them.
    """

    state: Any
    """The adapter's own."""
    tokens: int
    seconds: float


def kept_tokens(context: int, question: int, limit: int, truncation: Truncation, special: int = 0) -> tuple[int, int]:
    """How many of a context's tokens are kept in front and at the end, so that with the `special` tokens in front of it
    and the question behind it, answer prefix included, they are `limit`.

    middle: the first and the last half of the whole prompt, as THUDM/LongBench (LongBench/pred.py) and
    OpenBMB/InfiniteBench (src/eval_utils.py) cut it before the chat template; the question is the prompt's end, and is
    never cut itself. The last half of an odd limit is the larger one, as InfiniteBench's: LongBench, whose own limits
    are even, would keep one token less than the limit says.
    """
    kept = min(context, max(0, limit - question - special))
    if kept == context:
        return context, 0
    front = {"middle": min(max(0, limit // 2 - special), kept), "left": 0, "right": kept}[truncation]
    return front, kept - front


class ModelAdapter(ABC):
    """One model on one device."""

    version: ClassVar[int] = 1
    """Raised whenever answers change under the same options: earlier results become stale."""

    @classmethod
    @abstractmethod
    def check_options(cls, options: ModelOptions) -> None:
        """Checks what can be checked without loading anything (no torch): ValueError says what is allowed."""

    @classmethod
    @abstractmethod
    def check_device(cls, options: ModelOptions) -> str:
        """The kind of device that the model will run on, after it computed something; DeviceError if it cannot."""

    @classmethod
    @abstractmethod
    def load(cls, options: ModelOptions) -> ModelAdapter:
        """Loads the model; AdapterError if it cannot be."""

    @abstractmethod
    def count_tokens(self, text: str) -> int:
        """Tokens of `text` with the model's tokenizer, special tokens left out."""

    def prompt_tokens(self, sample: Sample) -> int:
        """Tokens of the sample's whole prompt, the `tokens_in` of its answer; AdapterError if it cannot be made."""
        return prompt_tokens(self.count_tokens, sample)

    @property
    def tokens(self) -> PromptTokens:
        """What a benchmark counts with."""
        return PromptTokens(self.count_tokens, self.prompt_tokens)

    @abstractmethod
    def cut(self, sample: Sample, limit: int, truncation: Truncation) -> Sample:
        """The sample with as much of its context as fits into `limit` tokens beside special tokens in front, question
        and answer prefix, and `cut_tokens` set.

        What is kept (`kept_tokens`) depends on this sample alone, never on what else is asked about its context.
        """

    @abstractmethod
    def prefill(self, samples: Sequence[Sample], attentions: Sequence[AttentionConfig] = ()) -> Prefill:
        """Reads what the prompts of `samples`, one or more about one context, have in common, for all of `attentions`.

        With dense attention, unless it is for one config with `sparse_prefill`. Never beyond a sample's seam, where the
        context ends in its own prompt.
        """

    @abstractmethod
    def answer(self, prefill: Prefill, sample: Sample, attention: AttentionConfig, generation: Generation) -> Answer:
        """Answers a sample from `prefill`, made for it and for `attention` (among others).

        The config begins at the sample's own seam. Equal, token for token, to answering from a prefill for this sample
        alone, whatever was answered from this one before.
        """

    def check_attention(self, attention: AttentionConfig) -> None:  # noqa: B027 - most adapters have nothing to say
        """AdapterError if the loaded model cannot be asked under a config."""

    def check_attention_path(self, sample: Sample) -> None:  # noqa: B027 - the same
        """AdapterError if, on this prompt, sparse attention that keeps everything differs from the model's own."""

    def breaks_device(self, error: BaseException) -> bool:  # noqa: ARG002 - for those that override it
        """Whether nothing can be computed in this process any more after `error`, as after most CUDA errors."""
        return False

    @abstractmethod
    def provenance(self) -> dict[str, Json]:
        """What scores depend on beside the sweep: device name, dtype, library versions, resolved revision."""

    @abstractmethod
    def peak_memory_gb(self) -> float | None:
        """The highest memory use of the device by this process so far; None where it cannot be told."""
