"""The engine: holds one model, answers bundles, publishes results. Its process is the only one that imports torch."""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from typing import Any

from hpc_bench.adapters.base import AdapterError, ModelAdapter, Prefill
from hpc_bench.attention.base import AttentionConfig
from hpc_bench.benchmarks.base import Benchmark
from hpc_bench.benchmarks.scoring import score_answers
from hpc_bench.errors import DatasetError, HpcBenchError, SweepError
from hpc_bench.execution.attempts.claims import Claim
from hpc_bench.execution.fingerprint import asks_for, would_differ
from hpc_bench.execution.folder import ExecutionDir
from hpc_bench.execution.header import Header
from hpc_bench.execution.manifest import manifest_version, read_header
from hpc_bench.execution.results.facts import Place, facts_of
from hpc_bench.execution.results.publish import publish_result, write_result
from hpc_bench.execution.results.samples_file import SamplesFile
from hpc_bench.files import may_pass
from hpc_bench.running.engine.events import (
    Answered,
    Answering,
    BundleDone,
    Complete,
    DataFailed,
    DataUnavailable,
    Failed,
    Hindered,
    Outdated,
    Prefilling,
    Progress,
    Retired,
    Scoring,
    Work,
)
from hpc_bench.running.engine.pipe import Events, cause_of
from hpc_bench.running.engine.questions import Questions
from hpc_bench.running.looking import PatientLook
from hpc_bench.values import Json, Sample

DATASET_UNAVAILABLE = "dataset_unavailable"
"""The failure of stubs whose data is missing, or not of its schema, whatever their model."""


@dataclass
class Run:
    """One claimed stub of the bundle that is being answered."""

    claim: Claim
    attention: AttentionConfig
    file: SamplesFile

    @property
    def key(self) -> str:
        """The stub's key."""
        return self.claim.stub.key


class Engine:
    """One loaded model and the bundles that come for it."""

    def __init__(
        self, execution: ExecutionDir, header: Header, adapter: ModelAdapter, events: Events, look: PatientLook
    ) -> None:
        self._execution = execution
        self._header = header
        self._adapter = adapter
        self._events = events
        self._look = look
        self._generation, self._questions = header.generation, Questions(header, adapter)
        self._version, self._newest = (0, 0), header
        self._log = ""
        self._path: str | None = None

    def answer_bundle(self, work: Work) -> None:
        """Answers all stubs of a bundle and publishes them; errors end the stubs they belong to."""
        claims, self._log = work.claims, work.log
        if not all(asks_for(self._header, claim.stub) for claim in claims):
            self._events.send(Outdated())
            return
        first = claims[0].stub
        try:
            benchmark = self._header.benchmark(first.benchmark)
            samples = self._questions.load(benchmark, first.benchmark, first.subset)
        except Exception as error:
            self._events.send(_why_no_data(error))
            return
        runs = self._open_runs(claims)
        for key, run in runs.items():
            done = sum(sample.sample_id in run.file.answers for sample in samples)
            self._events.send(Progress(key, done, len(samples)))
        for group in self._questions.by_context(samples):
            self._answer_context(group, runs, benchmark)
        for run in list(runs.values()):
            self._guarded(run, runs, lambda run: self._finish(run, benchmark, samples))
        self._events.send(BundleDone())

    def _open_runs(self, claims: Sequence[Claim]) -> dict[str, Run]:
        runs = {}
        for claim in claims:
            try:
                self._header.refuse_changed_files(claim.stub.attention)
                attention = self._header.attention(claim.stub.attention)
                self._adapter.check_attention(attention)
                file = self._look.at(partial(SamplesFile, self._execution, claim))
                runs[claim.stub.key] = Run(claim, attention, file)
            except (OSError, HpcBenchError, AdapterError) as error:
                self._events.send(_end_of(claim.stub.key, error))
        return runs

    def _answer_context(self, group: Sequence[Sample], runs: dict[str, Run], benchmark: Benchmark) -> None:
        """All questions about a context; one prefill for those that leave the same room for it."""
        open_runs = _open(runs, group)
        if not open_runs:
            return
        try:
            parts = self._questions.cut(group, benchmark)
        except Exception as error:
            self._fail_all(open_runs, runs, error)
            return
        for part in parts:
            self._answer_part(part, runs)

    def _answer_part(self, group: Sequence[Sample], runs: dict[str, Run]) -> None:
        """One prefill for all questions and all attention configs; none if all are answered."""
        open_runs = _open(runs, group)
        sharing = [run for run in open_runs if not run.attention.sparse_prefill]
        alone = [[run] for run in open_runs if run.attention.sparse_prefill]
        for together in filter(None, (sharing, *alone)):
            self._answer_from_one_prefill(together, group, runs)

    def _answer_from_one_prefill(self, together: Sequence[Run], group: Sequence[Sample], runs: dict[str, Run]) -> None:
        self._events.send(Prefilling())
        attentions = [run.attention for run in together]
        try:
            self._check_attention_path(group[0])
            prefill = self._adapter.prefill(group, attentions)
        except Exception as error:
            self._fail_all(together, runs, error)
            return
        for run in together:
            self._guarded(run, runs, lambda run: self._answer_questions(run, prefill, group))

    def _check_attention_path(self, sample: Sample) -> None:
        """Once an engine, on its first prompt; a model that failed it is not asked again."""
        if self._path is None:
            try:
                self._adapter.check_attention_path(sample)
                self._path = "checked"
            except AdapterError as error:
                self._path = str(error)
        if self._path != "checked":
            raise AdapterError(self._path)

    def _answer_questions(self, run: Run, prefill: Prefill, group: Sequence[Sample]) -> None:
        for sample in group:
            if sample.sample_id not in run.file.answers:
                self._events.send(Answering(run.key))
                run.file.add(sample.sample_id, self._adapter.answer(prefill, sample, run.attention, self._generation))
                self._events.send(Answered(run.key, len(run.file.answers)))

    def _guarded(self, run: Run, runs: dict[str, Run], work: Any) -> None:
        try:
            work(run)
        except Exception as error:
            _free_memory()
            self._fail(run, runs, error)
            self._retire_after(error)

    def _fail_all(self, together: Sequence[Run], runs: dict[str, Run], error: Exception) -> None:
        _free_memory()
        for run in together:
            self._fail(run, runs, error)
        self._retire_after(error)

    def _retire_after(self, error: Exception) -> None:
        """Ends this process where the error left it unable to compute, before it fails stubs that are fine."""
        if self._adapter.breaks_device(error):
            self._events.send(Retired(f"{type(error).__name__} left the engine unable to compute"))
            sys.exit(1)

    def _fail(self, run: Run, runs: dict[str, Run], error: Exception) -> None:
        del runs[run.key]
        try:
            run.file.close()
        except OSError as second:
            error.add_note(f"and its answers could not be saved: {second}")
        self._events.send(_end_of(run.key, error))

    def _finish(self, run: Run, benchmark: Benchmark, samples: Sequence[Sample]) -> None:
        """Scores what is safely on disk, and publishes it."""
        self._events.send(Scoring(run.key))
        run.file.close()
        answers = run.file.answers
        scores = score_answers(benchmark, samples, [answers[sample.sample_id].text for sample in samples])
        folder = self._execution.attempt(run.key, run.claim.attempt)
        place = Place({**self._adapter.provenance(), **_place()}, self._adapter.peak_memory_gb(), self._log)
        facts = facts_of(self._header, run.claim, samples, answers, place)
        write_result(folder, samples, answers, scores, facts, keep_context=self._header.request.keep_context)
        if self._manifest_asks_for_another(run.claim):
            self._events.send(Outdated())
            return
        publish_result(self._execution, run.claim)
        self._events.send(Complete(run.key))

    def _manifest_asks_for_another(self, claim: Claim) -> bool:
        """Whether a later submission wants another configuration's result in this place."""
        version = self._look.at(lambda: manifest_version(self._execution))
        if version != self._version:
            self._version, self._newest = version, self._look.at(lambda: read_header(self._execution))
        others_asked = self._newest.request.asked != self._header.request.asked
        return others_asked or would_differ(self._newest, claim.stub)


def _open(runs: Mapping[str, Run], group: Sequence[Sample]) -> list[Run]:
    """The runs that have not answered all questions of a group."""
    return [run for run in runs.values() if any(sample.sample_id not in run.file.answers for sample in group)]


def _end_of(stub: str, error: Exception) -> Failed | Hindered:
    return Hindered(stub, cause_of(error)) if may_pass(error) else Failed(stub, cause_of(error))


def _why_no_data(error: Exception) -> Hindered | DataUnavailable | DataFailed:
    if may_pass(error):
        return Hindered("", cause_of(error))
    if isinstance(error, (DatasetError, SweepError)):  # the sweep was right when it was planned, so its data changed
        return DataUnavailable(cause_of(error, DATASET_UNAVAILABLE), getattr(error, "whole", False))
    return DataFailed(cause_of(error))


def _place() -> dict[str, Json]:
    return {
        "host": platform.node(),
        "gpus": os.environ.get("CUDA_VISIBLE_DEVICES", ""),
        "hpc_bench": version("hpc-bench"),
        "batch_size": 1,
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def _free_memory() -> None:
    """Gives the memory of a failed answer back, so that the next one does not fail for it."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
