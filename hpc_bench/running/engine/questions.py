"""What is asked of one model: a subset's samples, and the parts of them that share a prefill."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence

from hpc_bench.adapters.base import ModelAdapter
from hpc_bench.benchmarks.base import Benchmark, PromptTokens
from hpc_bench.execution.header import Header
from hpc_bench.execution.results.raw_results import refuse_taken_columns
from hpc_bench.values import PromptForm, Sample

__all__ = ["Questions"]


class Questions:
    """The samples of the manifest's benchmarks; those of the last subset are kept."""

    def __init__(self, header: Header, adapter: ModelAdapter) -> None:
        self._header, self._adapter, self._request = header, adapter, header.request
        self._last: tuple[tuple[str, str | None], list[Sample]] | None = None

    def load(self, benchmark: Benchmark, name: str, subset: str | None) -> list[Sample]:
        """The samples that the sweep asks; DatasetError if their data is missing or has changed since it was planned
        with, ValueError if they cannot be told apart.
        """
        if self._last is None or self._last[0] != (name, subset):
            self._header.refuse_changed_data(name, subset)
            form = self._header.prompt_form(name)
            loaded = benchmark.load(subset, self._tokens(form))
            samples = [_in_form(sample, form) for sample in self._request.choose(loaded)]
            if not samples:
                raise ValueError(f"{name} {subset or ''} has no samples")
            if len({sample.sample_id for sample in samples}) != len(samples):
                raise ValueError(f"{name} {subset or ''} has doubled sample ids")
            refuse_taken_columns(samples)
            self._last = ((name, subset), samples)
        return self._last[1]

    def _tokens(self, form: PromptForm) -> PromptTokens:
        """What a benchmark counts with, prompts in the form in which they will be asked."""
        tokens = self._adapter.tokens
        return dataclasses.replace(tokens, prompt=lambda sample: tokens.prompt(_in_form(sample, form)))

    @staticmethod
    def by_context(samples: Sequence[Sample]) -> Iterator[list[Sample]]:
        """Those about one context together."""
        for _, group in itertools.groupby(samples, key=lambda sample: (sample.context, sample.chat)):
            yield list(group)

    def cut(self, group: Sequence[Sample], benchmark: Benchmark) -> list[list[Sample]]:
        """The questions about a context, cut to max_context_length, those together that keep the same part of it.

        How much is kept depends on a question's own length, so that an answer stays what it is whatever else is asked.
        """
        limit = self._request.max_context_length
        if limit is None:
            return [list(group)]
        parts: dict[tuple[int, str], list[Sample]] = {}
        for sample in group:
            cut = self._adapter.cut(sample, limit, self._request.truncation or benchmark.truncation)
            parts.setdefault((cut.cut_tokens, cut.context), []).append(cut)
        return list(parts.values())


def _in_form(sample: Sample, form: PromptForm) -> Sample:
    return dataclasses.replace(sample, form=form)
