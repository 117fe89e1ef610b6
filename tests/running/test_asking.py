"""How an engine asks: which samples, how much of a context, and which part of an answer counts."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from hpc_bench.adapters.base import Prefill
from hpc_bench.adapters.scripted import Script, ScriptedAdapter
from hpc_bench.benchmarks.suites.needle import Needle
from hpc_bench.execution.attempts.claims import Claim
from hpc_bench.execution.fingerprint import would_differ
from hpc_bench.execution.folder import ExecutionDir
from hpc_bench.execution.manifest import read_header
from hpc_bench.execution.results.result import METRICS, RAW_RESULTS, STUB
from hpc_bench.running.engine.engine import Engine
from hpc_bench.running.engine.events import Cause, Event, Work
from hpc_bench.running.looking import PatientLook
from hpc_bench.values import Generation, PromptForm, Request, Sample
from tests.support.builders import prepare, stubs_of


class Watched(ScriptedAdapter):
    """Keeps the contexts that it reads."""

    def __init__(self, **script: Any) -> None:
        super().__init__(Script(**script))
        self.read: list[str] = []

    def prefill(self, samples: Sequence[Sample], attentions: Sequence[Any] = ()) -> Prefill:
        self.read.append(samples[0].context)
        return super().prefill(samples, attentions)


class Heard:
    """Stands in the place of the pipe to a worker."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def send(self, event: Event) -> None:
        cause: Cause | None = getattr(event, "cause", None)
        self.events.append(type(event).__name__ + (f": {cause.message}" if cause else ""))


MOCK = {
    "model_names": ["org/alpha"],
    "sparse_attention_configs": {"dense": None},
    "benchmark_configs": {"mock_benchmark": None},
}


def ask(adapter: ScriptedAdapter, base: Path, **changes: Any) -> tuple[ExecutionDir, list[str]]:
    """Answers the first stub of a sweep in this process."""
    execution = prepare(base, **{**MOCK, **changes})
    stub = stubs_of(execution)[0]
    heard = Heard()
    engine = Engine(execution, read_header(execution), adapter, heard, PatientLook())  # type: ignore[arg-type]
    engine.answer_bundle(Work((Claim(stub, 1),), log=""))
    return execution, heard.events


def result_of(execution: ExecutionDir) -> Path:
    return execution.result(stubs_of(execution)[0].result_path)


def rows_of(execution: ExecutionDir) -> list[dict[str, str]]:
    with (result_of(execution) / RAW_RESULTS).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


# Which samples


@pytest.mark.parametrize(
    ("count", "of", "chosen"),
    [
        (1, 5, [0]),
        (2, 5, [0, 2]),
        (3, 5, [0, 1, 3]),
        (5, 5, [0, 1, 2, 3, 4]),
        (4, 10, [0, 2, 5, 7]),
        (9, 3, [0, 1, 2]),
        (3, 0, []),
    ],
)
def test_spread_samples_are_even(count: int, of: int, chosen: list[int]) -> None:
    assert Request(max_samples=count, sample_order="spread").choose(iter(range(of))) == chosen


def test_first_samples_are_all_that_is_generated() -> None:
    made = []

    def generate() -> Iterator[int]:
        for number in range(100):
            made.append(number)
            yield number

    assert Request(max_samples=3).choose(generate()) == [0, 1, 2]
    assert made == [0, 1, 2]
    assert len(Request().choose(generate())) == len(Request(max_samples=10**30).choose(range(100))) == 100


@pytest.mark.parametrize(("order", "ids"), [("first", ["0", "1", "2"]), ("spread", ["0", "1", "3"])])
def test_engine_asks_the_chosen_samples(tmp_path: Path, order: str, ids: list[str]) -> None:
    execution, _ = ask(ScriptedAdapter(Script()), tmp_path, request_kwargs={"max_samples": 3, "sample_order": order})

    assert [row["sample_id"] for row in rows_of(execution)] == ids


# How much of a context


def test_generated_contexts_leave_room_for_what_stands_around_them(tmp_path: Path) -> None:
    class Framed(Watched):
        def prompt_tokens(self, sample: Sample) -> int:
            return 100 + super().prompt_tokens(sample)

    adapter = Framed()

    _, events = ask(adapter, tmp_path, benchmark_configs={"needle": {"subsets": [512], "samples": 4}})

    assert events[-1] == "BundleDone"
    assert all(360 < adapter.count_tokens(context) < 512 - 100 - 16 for context in adapter.read)


@pytest.mark.parametrize(
    ("changes", "form"),
    [
        ({}, PromptForm("assistant")),
        ({"generation_kwargs": {"enable_thinking": True}}, PromptForm("user")),
        (
            {"request_kwargs": {"answer_prefix": "user", "encode": "parts"}},
            PromptForm("user", "parts", is_explicit=True),
        ),
    ],
)
def test_samples_are_counted_and_asked_in_the_form_that_the_sweep_says(
    tmp_path: Path, changes: dict[str, Any], form: PromptForm
) -> None:
    seen: set[PromptForm] = set()

    class Noting(ScriptedAdapter):
        def prompt_tokens(self, sample: Sample) -> int:
            seen.add(sample.form)
            return super().prompt_tokens(sample)

    ask(Noting(Script()), tmp_path, benchmark_configs={"needle": {"subsets": [256], "samples": 2}}, **changes)

    assert seen == {form}


def test_questions_of_one_length_share_the_cut_context(tmp_path: Path) -> None:
    adapter = Watched()

    execution, events = ask(adapter, tmp_path, request_kwargs={"max_context_length": 30})

    rows = rows_of(execution)
    asked = [len(f"{row['question']}Answer:".split()) for row in rows]
    assert events.count("Prefilling") == len(adapter.read)
    assert sorted({len(text.split()) for text in adapter.read}) == sorted({30 - words for words in asked})
    assert all(int(row["cut_tokens"]) > 0 for row in rows)
    assert json.loads((result_of(execution) / STUB).read_text())["cut_tokens"] == sum(
        int(row["cut_tokens"]) for row in rows
    )


def test_cut_of_a_question_hangs_on_no_other(tmp_path: Path) -> None:
    """Two questions of different length about one context: the first is read alike with and without the second."""
    alone, both = Watched(), Watched()
    limit = {"max_context_length": 30}

    one, _ = ask(alone, tmp_path / "alone", request_kwargs={**limit, "max_samples": 1})
    two, _ = ask(both, tmp_path / "both", request_kwargs={**limit, "max_samples": 2})

    first, second = rows_of(two)
    assert first["cut_tokens"] != second["cut_tokens"]
    assert both.read[: len(alone.read)] == alone.read
    assert len(both.read) == 2
    assert rows_of(one)[0]["cut_tokens"] == first["cut_tokens"]


def test_uncut_contexts_are_read_once_for_all_questions(tmp_path: Path) -> None:
    adapter = Watched()

    ask(adapter, tmp_path, request_kwargs={"max_context_length": 10_000})

    assert len(adapter.read) == 3


def test_sweep_decides_over_the_benchmark_what_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def first_read(name: str, **request: Any) -> str:
        adapter = Watched()
        needle = {"needle": {"subsets": [256], "samples": 1}}
        request = {"max_context_length": 60, **request}
        ask(adapter, tmp_path / name, benchmark_configs=needle, request_kwargs=request)
        return adapter.read[0]

    middle = first_read("default")
    asked = {mode: first_read(mode, truncation=mode) for mode in ("middle", "left", "right")}
    monkeypatch.setattr(Needle, "truncation", "left")

    assert asked["middle"] == middle
    assert len(set(asked.values())) == 3
    assert asked["right"].startswith(middle[:30])
    assert asked["left"].endswith(middle[-30:])
    assert first_read("own") == asked["left"]


def test_context_that_cannot_be_cut_fails_its_stub_and_not_the_engine(tmp_path: Path) -> None:
    class Broken(ScriptedAdapter):
        def cut(self, *_arguments: Any) -> Any:
            raise ValueError("no text")

    _, events = ask(Broken(Script()), tmp_path, request_kwargs={"max_context_length": 30})

    assert "Failed: no text" in events
    assert events[-1] == "BundleDone"


# Limits


@pytest.mark.parametrize(
    ("wanted", "limit"),
    [
        (Generation(), 32),
        (Generation(max_new_tokens=8), 8),
        (Generation(max_new_tokens=64), 32),
        (Generation(max_new_tokens=8, override_limits=True), 8),
        (Generation(max_new_tokens=64, override_limits=True), 64),
    ],
)
def test_limit_is_lowered_or_replaced(wanted: Generation, limit: int) -> None:
    assert wanted.limit(32) == limit


# Thinking


@pytest.mark.parametrize(("answer", "score"), [("right", 100.0), ("wrong", 0.0)])
def test_what_is_thought_is_kept_and_not_scored(tmp_path: Path, answer: Any, score: float) -> None:
    samples = rows_of(ask(ScriptedAdapter(Script()), tmp_path / "plain")[0])
    thought = " ".join(json.loads(row["references"])[0] for row in samples)  # every right answer is thought of

    execution, _ = ask(ScriptedAdapter(Script(answer=answer, thought=thought)), tmp_path / "thinking")

    assert json.loads((result_of(execution) / METRICS).read_text())["score"] == score
    assert all(row["prediction"].startswith(f"<think>{thought}</think>") for row in rows_of(execution))


@pytest.mark.parametrize("limit", [None, 30])
def test_what_was_planned_when_contexts_were_cut_otherwise_is_not_the_same(tmp_path: Path, limit: int | None) -> None:
    execution = prepare(tmp_path, **{**MOCK, "request_kwargs": {"max_context_length": limit}})
    text = execution.manifest.read_text()
    assert ', "truncation": "middle"' in text
    execution.manifest.write_text(text.replace(', "truncation": "middle"', ""))

    assert would_differ(read_header(execution), stubs_of(execution)[0]) == (limit is not None)
