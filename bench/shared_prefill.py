"""One prefill for all questions and attention configs of a context, against one prefill for each of them.

Contexts of 2,048 tokens, 4 configs x 8 questions, answers of at most 4 tokens, both demo models; one thread, as in a
slot of a 2-core machine. Target: at least 5 times faster, and every answer the same, token for token.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from statistics import median

import click
from paired import Times, interleave, print_figure, print_machine, print_times, ratio, seconds

from hpc_bench.adapters import huggingface
from hpc_bench.adapters.base import ModelAdapter
from hpc_bench.adapters.decoding import Decoder
from hpc_bench.adapters.model_source import find_model
from hpc_bench.attention.base import AttentionConfig
from hpc_bench.benchmarks.suites.needle import Needle
from hpc_bench.sweep.sweep import load_sweep
from hpc_bench.values import Answer, Generation, ModelOptions, Sample

QUICKSTART = Path(__file__).parents[1] / "examples" / "quickstart.yaml"
MODELS = ("demo/tiny-2l", "demo/tiny-4l")
LENGTH, QUESTIONS, NEW_TOKENS = "2048", 8, 4
GENERATION = Generation(max_new_tokens=NEW_TOKENS)
TARGET = 5.0


def contexts(adapter: ModelAdapter, count: int) -> list[list[Sample]]:
    """The questions of so many contexts."""
    needle = Needle(samples=count * QUESTIONS, questions_per_context=QUESTIONS)
    samples = needle.load(LENGTH, adapter.tokens)
    return [list(group) for _, group in groupby(samples, key=lambda sample: sample.context)]


def answer_shared(
    adapter: ModelAdapter, questions: Sequence[Sample], configs: Sequence[AttentionConfig]
) -> list[Answer]:
    prefill = adapter.prefill(questions, configs)
    return [adapter.answer(prefill, sample, config, GENERATION) for config in configs for sample in questions]


def answer_alone(
    adapter: ModelAdapter, questions: Sequence[Sample], configs: Sequence[AttentionConfig]
) -> list[Answer]:
    return [
        answer for config in configs for sample in questions for answer in answer_shared(adapter, [sample], [config])
    ]


@contextmanager
def recorded_ids() -> Iterator[list[list[int]]]:
    """The token ids of all answers that the adapter gives meanwhile, which only its decoder knows."""
    told: list[list[int]] = []

    class Recorder(Decoder):
        def text(self, answer: list[int]) -> str:
            told.append(answer)
            return super().text(answer)

    huggingface.Decoder = Recorder
    try:
        yield told
    finally:
        huggingface.Decoder = Decoder


def measure_context(
    adapter: ModelAdapter, questions: Sequence[Sample], configs: Sequence[AttentionConfig], times: Times
) -> None:
    """Adds the seconds of both ways; exits if an answer differs."""
    given: dict[str, list[list[int]]] = {}
    answers: list[Answer] = []

    def run(name: str) -> float:
        with recorded_ids() as given[name]:
            answer = answer_shared if name == "shared" else answer_alone
            return seconds(lambda: answers.extend(answer(adapter, questions, configs)))

    order = ("shared", "alone") if len(times["shared"]) % 2 else ("alone", "shared")
    for name, values in interleave({name: lambda name=name: run(name) for name in order}, 1).items():
        times[name] += values
    if given["shared"] != given["alone"] or len(given["alone"]) != len(configs) * len(questions):
        raise SystemExit(f"the answers differ: {given}")
    print(
        f"  {answers[0].tokens_in} tokens in; one prefill {median(a.prefill_s for a in answers):.4f} s, "
        f"one answer {median(a.seconds for a in answers):.4f} s; {len(given['alone'])} answers identical"
    )


@click.command()
@click.option("--quick", is_flag=True, help="2 contexts instead of 5.")
@click.option("--threads", default=1, show_default=True, help="Of torch.")
def main(quick: bool, threads: int) -> None:
    """Time shared and separate prefills."""
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    import torch

    print_machine()
    torch.set_num_threads(threads)
    configs = list(load_sweep(QUICKSTART).attentions.values())
    for model in MODELS:
        print(f"{model}: {len(configs)} configs x {QUESTIONS} questions on {LENGTH} tokens, {threads} thread(s)")
        adapter = huggingface.HuggingFaceAdapter.load(ModelOptions(find_model(model, None).source, device="cpu"))
        first, *rest = contexts(adapter, 1 + (2 if quick else 5))
        answer_shared(adapter, first, configs)  # a process's first calls are slower
        times = Times(alone=[], shared=[])
        for questions in rest:
            measure_context(adapter, questions, configs, times)
        print_times(times)
        faster = ratio(times, "alone", "shared")
        figure = f"shared prefill, {model}"
        print_figure(figure, f"at least {TARGET:g} x", f"{faster:.1f} x, same tokens", met=faster >= TARGET)


if __name__ == "__main__":
    main()
