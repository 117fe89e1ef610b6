"""What every benchmark keeps to, a new one too: each name in the catalog passes through here."""

from pathlib import Path
from typing import Any

import pytest

from hpc_bench import catalog
from hpc_bench.benchmarks.base import Benchmark
from hpc_bench.benchmarks.generated.ruler import TASKS
from hpc_bench.benchmarks.suites.aime import Aime2024, Aime2025
from hpc_bench.benchmarks.suites.longbench import LongBench
from hpc_bench.benchmarks.suites.mock_benchmark import MockBenchmark
from hpc_bench.benchmarks.suites.needle import Needle
from hpc_bench.benchmarks.suites.own_data import OwnData
from hpc_bench.benchmarks.suites.ruler import Ruler
from hpc_bench.errors import SweepError
from hpc_bench.plugin_checks import check_benchmark
from hpc_bench.values import Sample
from tests.support.benchmark_rows import write_aime, write_longbench
from tests.support.ruler_sources import write_sources

NAMES = catalog.names("benchmark")


@pytest.fixture(params=NAMES)
def benchmark(request: pytest.FixtureRequest, tmp_path: Path) -> Benchmark:
    made: Benchmark = catalog.build("benchmark", request.param, needed_options(request.param, tmp_path))
    return made


def needed_options(name: str, folder: Path) -> dict[str, Any]:
    """The options without which a benchmark cannot be."""
    if name != "own_data":
        return {}
    data = folder / "my.jsonl"
    data.write_text('{"context": "c", "question": "q", "answer": "a", "max_new_tokens": 8}\n')
    return {"data": str(data), "metric": "qa_f1"}


def samples_for(subset: str | None) -> list[Sample]:
    """Samples as `load` would make them, without data that would have to be downloaded."""
    return [
        Sample(
            str(number),
            "context",
            "question",
            ("Ann", "1234"),
            8,
            task=subset or "",
            extra={"depth": 50.0, "length": 4096},
        )
        for number in range(3)
    ]


def test_benchmark_keeps_the_contract(benchmark: Benchmark) -> None:
    check_benchmark(benchmark, samples={subset: samples_for(subset) for subset in benchmark.subsets or (None,)})


def test_local_rows_keep_the_contract(tmp_path: Path) -> None:
    subsets = ["qasper", "hotpotqa_e", "lsht", "lcc"]
    rows = write_longbench(tmp_path / "longbench", subsets)
    years = write_aime(tmp_path)

    check_benchmark(LongBench(data=str(rows)), subsets=subsets)
    check_benchmark(Aime2024(data=str(years["aime2024"])))
    check_benchmark(Aime2025(data=str(years["aime2025"])))
    check_benchmark(OwnData(**needed_options("own_data", tmp_path)))


def test_generated_samples_keep_the_contract(tmp_path: Path) -> None:
    sources = write_sources(tmp_path)

    check_benchmark(MockBenchmark())
    check_benchmark(Needle(samples=6), subsets=["256", "1000"])
    check_benchmark(Ruler(source="generate", samples=3, **sources), subsets=[f"1024_{task}" for task in TASKS])


def test_unknown_option_is_refused() -> None:
    for name in NAMES:
        with pytest.raises(SweepError):
            catalog.build("benchmark", name, {"no_such_option": 1})
