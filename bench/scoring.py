"""What benchmarks cost beside the model: scoring, making RULER's texts, reading data, and the harness a sample.

- scoring: `score` of 10,000 made-up answers of plausible lengths (at most 10 s of each), one subset for each metric.
- generating: RULER samples of 32,768 tokens of the demo models' tokenizer, each task; essays and questions are made up.
- loading: a LongBench subset of 200 rows of 100 kB from parquet, in a process of its own.
- overhead: `submit` of one stub of 2,000 samples against the same of one sample, under a scripted model that takes no
  time: everything from reading the data to the published result, a sample. And what a real model's answers take beside
  its forward passes: cutting, templates, tokens, the cache's fork, the loop of decoding, text, scores. Target for the
  sum: at most 5 ms.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median

import click
import yaml
from answers import CASES, make_cases, words
from paired import interleave, print_figure, print_machine, print_times, seconds, seconds_of_command

import hpc_bench
from hpc_bench import catalog
from hpc_bench.adapters.base import ModelAdapter
from hpc_bench.adapters.model_source import find_model
from hpc_bench.attention.base import AttentionConfig
from hpc_bench.benchmarks.base import Benchmark
from hpc_bench.benchmarks.generated.ruler import TASKS
from hpc_bench.benchmarks.scoring import score_answers
from hpc_bench.benchmarks.suites.longbench import LongBench
from hpc_bench.benchmarks.suites.ruler import Ruler
from hpc_bench.values import Generation, Sample

CHUNK, DISTINCT, MOST_S = 100, 500, 10.0
SLOWEST = 500
"""Samples a second that a scorer must reach."""
LENGTH = 32_768
ROWS, ROW_CHARACTERS = 200, 100_000
ANSWERED, ASKED, NEW_TOKENS = 2_000, 8, 32
OVERHEAD_MS = 5.0


def score_all(count: int) -> None:
    """Samples a second of each scorer; what it loads the first time is not counted."""
    print("\n| scored | metric | samples/s | seconds for 10,000 |\n|---|---|---|---|")
    for name in CASES:
        benchmark_name, _, subset = name.partition(" ")
        benchmark: Benchmark = catalog.build("benchmark", benchmark_name, {})
        samples, predictions = make_cases(name, DISTINCT)
        benchmark.score(samples[:2], predictions[:2])
        done, took = 0, 0.0
        while done < count and took < MOST_S:
            part = slice(done % DISTINCT, done % DISTINCT + CHUNK)
            took += seconds(partial(benchmark.score, samples[part], predictions[part]))
            done += CHUNK
        rate = done / took
        slow = "" if rate >= SLOWEST else " (below the target)"
        print(
            f"| {name} | {benchmark.headline(subset or None) or 'none'} | {rate:,.0f}{slow} | {10_000 / rate:.2f} |",
            flush=True,
        )


def generate_all(samples: int) -> None:
    """Seconds a sample, with what is made once for a subset shared among the samples."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(Path(hpc_bench.__file__).parent / "demo" / "tiny-2l" / "tokenizer.json"))

    def tokens(text: str) -> int:
        return len(tokenizer.encode(text, add_special_tokens=False).ids)

    print("\n| RULER task, 32,768 tokens | first sample | each later one |\n|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        benchmark = Ruler(source="generate", samples=samples, **write_sources(Path(folder)))
        for task in TASKS:
            made = iter(benchmark.load(f"{LENGTH}_{task}", tokens))
            first = seconds(partial(next, made))
            later = seconds(partial(list, made)) / (samples - 1)
            print(f"| {task} | {first:.2f} s | {later:.2f} s |", flush=True)


def write_sources(folder: Path) -> dict[str, str]:
    """Essays, and questions in the forms of SQuAD and HotpotQA, of the sizes of the real ones' parts."""
    draw = random.Random(0)
    (folder / "essays.txt").write_text("\n\n".join(words(draw, 400) for _ in range(200)))
    documents = [words(draw, 120) for _ in range(800)]
    asked = [{"question": f"What is {n}?", "answers": [{"text": text.split()[5]}]} for n, text in enumerate(documents)]
    articles = [
        {"title": f"Title {n}", "paragraphs": [{"context": documents[n], "qas": [asked[n]]}]} for n in range(800)
    ]
    hops = [
        {
            "question": f"Where is {n}?",
            "answer": documents[n].split()[5],
            "supporting_facts": [[f"Title {n}", 0]],
            "context": [[f"Title {(n + k) % 800}", [documents[(n + k) % 800]]] for k in range(10)],
        }
        for n in range(100)
    ]
    (folder / "qa_1.json").write_text(json.dumps({"data": articles}))
    (folder / "qa_2.json").write_text(json.dumps(hops))
    return {"essays": str(folder / "essays.txt"), "qa": str(folder)}


def longbench_row(number: int, characters: int) -> dict[str, object]:
    context = words(random.Random(number), characters // 7)[:characters]
    return {
        "context": context,
        "question": "Who is it?\n",
        "answer_prefix": "Answer:",
        "answers": [words(random.Random(-number), 4)],
        "all_classes": None,
        "length": characters // 7,
        "task": "qasper",
        "max_new_tokens": 148,
    }


def load_parquet(rounds: int) -> None:
    """In fresh processes, whose peak memory is their own."""
    from pyarrow import Table, parquet

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "qasper.parquet")
        parquet.write_table(Table.from_pylist([longbench_row(n, ROW_CHARACTERS) for n in range(ROWS)]), path)
        size = path.stat().st_size / 1e6
        command = [sys.executable, __file__, "--load", str(path)]
        runs = [json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout) for _ in range(rounds)]
    middle = {key: median(run[key] for run in runs) for key in runs[0]}
    print(
        f"\nloading {ROWS} rows of {ROW_CHARACTERS:,} characters ({size:.1f} MB of parquet): {middle['seconds']:.2f} s "
        f"after {middle['imports']:.2f} s for `import datasets`; peak {middle['peak_mb']:.0f} MB, of which "
        f"{middle['before_mb']:.0f} MB were there before"
    )


def be_loader(path: str) -> None:
    """One measurement; the only thing that this process does."""
    imports = seconds(lambda: __import__("datasets").disable_progress_bars())
    before = peak_mb()
    started = time.perf_counter()
    samples = list(LongBench(data=path).load("qasper", len))
    took = time.perf_counter() - started
    assert len(samples) == ROWS
    json.dump({"imports": imports, "seconds": took, "before_mb": before, "peak_mb": peak_mb()}, sys.stdout)


def peak_mb() -> float:
    """Since this program began; ru_maxrss would begin with what its parent had."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def write_sweep(folder: Path, rows: int) -> list[str]:
    """The command that runs one stub of so many samples, each with a context of its own, in a fresh execution."""
    data = folder / f"{rows}.jsonl"
    data.write_text("".join(json.dumps(longbench_row(n, 4_000)) + "\n" for n in range(rows)))
    sweep = {
        "base_result_dir": str(folder / f"results_{rows}"),
        "model_names": ["demo/tiny-2l"],
        "benchmark_configs": {"longbench": {"subsets": ["qasper"], "data": str(data)}},
        "adapter_config": {"adapter_name": "scripted"},
    }
    path = folder / f"sweep_{rows}.yaml"
    path.write_text(yaml.safe_dump(sweep))
    return [sys.executable, "-m", "hpc_bench", "submit", "--gpus", "none", "--new", str(path)]


def measure_overhead(rounds: int) -> None:
    adapter = measure_adapter(rounds)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ways: dict[str, Callable[[], float]] = {
            f"{rows} samples": partial(seconds_of_command, write_sweep(folder, rows), cwd=folder)
            for rows in (1, ANSWERED)
        }
        times = interleave(ways, rounds)
    print()
    print_times(times)
    each = [1_000 * (many - one) / (ANSWERED - 1) for one, many in zip(*times.values(), strict=True)]
    total = [machinery + beside for machinery, beside in zip(each, adapter, strict=True)]
    print(f"machinery a sample: {spread(each)}; adapter beside the forward passes a sample: {spread(adapter)}")
    met = median(total) <= OVERHEAD_MS
    print_figure("harness a sample", f"at most {OVERHEAD_MS:g} ms", f"{spread(total)} ({rounds} rounds)", met=met)


def spread(ms: Sequence[float]) -> str:
    return f"median {median(ms):.2f} ms, {min(ms):.2f}-{max(ms):.2f} ms"


def measure_adapter(rounds: int) -> list[float]:
    """Milliseconds a sample of a demo model's answers outside of its forward passes."""
    from hpc_bench.adapters.huggingface import HuggingFaceAdapter
    from hpc_bench.values import ModelOptions

    adapter = HuggingFaceAdapter.load(ModelOptions(find_model("demo/tiny-2l", None).source, device="cpu"))
    model, inside = adapter._model, list[float]()
    forward = model.forward

    def timed_forward(**inputs: object) -> object:
        started = time.perf_counter()
        output = forward(**inputs)
        inside.append(time.perf_counter() - started)
        return output

    model.forward = timed_forward
    benchmark = LongBench()
    samples = [benchmark.to_sample(n, longbench_row(n, 4_000), "qasper") for n in range(ASKED)]
    answer_all(adapter, benchmark, samples[:2])
    beside, passes = [], 0
    for _ in range(rounds):
        inside.clear()
        took = seconds(partial(answer_all, adapter, benchmark, samples))
        beside.append(1_000 * (took - sum(inside)) / ASKED)
        passes = len(inside)
    print(f"\n{passes / ASKED:.0f} forward passes a sample")
    return beside


def answer_all(adapter: ModelAdapter, benchmark: Benchmark, samples: Sequence[Sample]) -> None:
    """As the engine does, without its files."""
    texts = []
    for sample in samples:
        cut = adapter.cut(sample, 1_500, benchmark.truncation)
        prefill = adapter.prefill([cut])
        texts.append(adapter.answer(prefill, cut, AttentionConfig(), Generation(max_new_tokens=NEW_TOKENS)).text)
    score_answers(benchmark, samples, texts)


@click.command()
@click.option("--quick", is_flag=True, help="500 answers a scorer, two texts a task, one round.")
@click.option("--load", hidden=True, help="PATH: be one measurement of loading.")
@click.option("--only", type=click.Choice(["scoring", "generating", "loading", "overhead"]))
def main(quick: bool, load: str | None, only: str | None) -> None:
    """Measure what benchmarks cost beside the model."""
    if load:
        be_loader(load)
        return
    print_machine()
    rounds = 1 if quick else 5
    parts: dict[str, Callable[[], None]] = {
        "scoring": partial(score_all, 500 if quick else 10_000),
        "generating": partial(generate_all, 2 if quick else 4),
        "loading": partial(load_parquet, rounds),
        "overhead": partial(measure_overhead, rounds),
    }
    for name, measure in parts.items():
        if only in (None, name):
            measure()


if __name__ == "__main__":
    main()
