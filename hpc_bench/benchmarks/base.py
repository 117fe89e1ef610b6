"""What a benchmark is: how it loads its samples, and how it scores answers. No model, no torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import ClassVar

from hpc_bench.errors import SweepError, unknown_name
from hpc_bench.values import AnswerPlace, HubRepo, Json, Sample, Scores, Truncation

__all__ = ["Benchmark", "PromptTokens", "SubsetSize", "Tokens", "prompt_tokens"]

Tokens = Callable[[str], int]
"""Counts the tokens of a text with the tokenizer of the model under test, special tokens left out.

What a prompt costs is more; `prompt_tokens` says it.
"""


@dataclass(frozen=True)
class PromptTokens:
    """Tokens as an adapter counts them: of a text, when called, and of a whole prompt."""

    count: Tokens
    prompt: Callable[[Sample], int]
    """`ModelAdapter.prompt_tokens`."""

    def __call__(self, text: str) -> int:
        """Tokens of a text."""
        return self.count(text)


def prompt_tokens(tokens: Tokens, sample: Sample) -> int:
    """Tokens of a sample's whole prompt, special tokens and chat template included where `tokens` knows of them."""
    if isinstance(tokens, PromptTokens):
        return tokens.prompt(sample)
    return tokens(sample.context + sample.question + sample.answer_prefix)


@dataclass(frozen=True)
class SubsetSize:
    """An estimate, for scheduling alone; never decides what runs or what counts as complete."""

    samples: int
    context_tokens: int
    new_tokens: int
    questions_per_context: int = 1


@dataclass(frozen=True)
class Benchmark(ABC):
    """A benchmark; the dataclass fields are its options in a sweep.

    Subclasses are frozen dataclasses that import nothing heavy at module level (planning loads them) and
    check their options in `__post_init__` with a ValueError that says what is allowed.
    """

    version: ClassVar[int] = 1
    """Raised whenever prompts or samples change: earlier results become stale."""
    scoring_version: ClassVar[int] = 1
    """Raised whenever scores alone change: earlier results stay, and `rescore` scores them again."""
    subsets: ClassVar[tuple[str, ...]] = ()
    """What a benchmark named without subsets expands to; empty: it has none."""
    truncation: ClassVar[Truncation] = "middle"
    """What a prompt above the sweep's max_context_length loses, unless the sweep says otherwise."""
    answer_prefix: ClassVar[AnswerPlace] = "assistant"
    """Where the authors' scripts put the answer prefix of a chat prompt, unless the sweep says otherwise."""

    def check_subset(self, subset: str) -> str:
        """The canonical spelling of `subset`; SweepError with the valid names if there is no such subset."""
        if subset not in self.subsets:
            if not self.subsets:
                raise SweepError(f"has no subsets, but {subset!r} was asked for; leave the list out")
            raise SweepError(unknown_name("subset", subset, self.subsets))
        return subset

    def identity(self, subset: str | None) -> dict[str, Json]:  # noqa: ARG002
        """All that decides prompts and scores beside the name, subset and scoring version; goes into the fingerprint.

        No paths: a local file enters by its sha256, hub data by its revision.
        """
        return {"version": self.version, **asdict(self)}

    def hub_data(self, subset: str | None) -> HubRepo | None:  # noqa: ARG002
        """The data set on the hub that `load` reads for a subset; None: it needs none.

        One repository and revision for all subsets, and the revision is an option called `revision`: `offline: true`
        replaces it by the commit that was prefetched.
        """
        return None

    def headline(self, subset: str | None) -> str:  # noqa: ARG002
        """The metric that is the score, and each sample's first; empty: there is no score."""
        return ""

    @abstractmethod
    def size(self, subset: str | None) -> SubsetSize:
        """The estimated size of a subset, without loading it."""

    def check_data(self, subsets: Sequence[str | None]) -> None:  # noqa: B027 - most have no data on this machine
        """Reads the data of subsets where it lies on this machine, as `load` will; DatasetError if it cannot be used.

        Planning asks for all subsets of a sweep at once, so that data that several of them share is read once.
        """

    @abstractmethod
    def load(self, subset: str | None, tokens: Tokens) -> Iterable[Sample]:
        """All samples of a subset, those of one context next to each other, ids unique, the same at every call."""

    @abstractmethod
    def score(self, samples: Sequence[Sample], predictions: Sequence[str]) -> Scores:
        """Scores of one subset's answers; pure, on the CPU, never raises because of a prediction's content.

        A prediction is what a model says after its thinking, if it thinks. Hangs on nothing of a sample but its
        `sample_id`, `question`, `references`, `task` and `extra`: these are in raw_results.csv, from which answers are
        scored again, where context and limits are missing.
        """

    @classmethod
    def averages(cls, subsets: Sequence[str]) -> Mapping[str, Mapping[str, float]]:
        """The averages that a sweep's `subsets` ("" for a benchmark without) take part in: name -> subset -> weight.

        Each with all subsets that the benchmark's authors average over, whether the sweep has them or not: an average
        over fewer is shown as incomplete. Weights are above 0. The default is one mean over the sweep's subsets.
        """
        return {"mean": dict.fromkeys(subsets, 1.0)}
