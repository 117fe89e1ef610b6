"""Differences to a baseline: intervals, pairing by sample, and every case in which there is no interval."""

from __future__ import annotations

import csv
import io
import json
import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from hpc_bench.errors import SweepError
from hpc_bench.execution.folder import ExecutionDir
from hpc_bench.execution.manifest import read_header
from hpc_bench.execution.results.raw_results import SampleScores, read_sample_scores
from hpc_bench.execution.stub import make_stub
from hpc_bench.report.averages import Group
from hpc_bench.report.bootstrap import paired_intervals
from hpc_bench.report.cell import Cell
from hpc_bench.report.comparison import Comparison, Delta, compare_cells
from hpc_bench.sweep.sweep import parse_sweep
from tests.support.builders import prepare, publish, publish_all, rewrite_json, run_cli, stubs_of, sweep_data

BASE = [100.0, 100.0, 0.0, 100.0, 100.0, 0.0, 100.0, 100.0]
WORSE = [100.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 100.0]


def cell(
    attention: str,
    values: Sequence[float],
    *,
    subset: str = "256",
    ids: Sequence[str] | None = None,
    score: float | None = None,
    column: str = "match",
) -> Cell:
    """A complete result whose score is the mean unless another is given."""
    mean = math.fsum(values) / max(1, len(values)) if score is None else score
    samples = SampleScores(tuple(ids or map(str, range(len(values)))), column, values)
    return Cell(make_stub("m", attention, "needle", subset, attention), "complete", 1, mean, samples=samples)


def deltas(*cells: Cell, groups: Sequence[Group] = ()) -> tuple[list[Delta], Comparison]:
    found = compare_cells(cells, groups, "dense")
    return list(found.stubs.values()), found


def only_delta(*cells: Cell) -> Delta:
    (found,), _ = deltas(*cells)
    return found


# Intervals


@pytest.mark.parametrize("count", [5, 40, 300])
@pytest.mark.parametrize("kind", ["graded", "right or wrong"])
def test_interval_is_that_of_scipy(count: int, kind: str) -> None:
    rng = np.random.default_rng(count)
    made = rng.normal(-5, 20, count) if kind == "graded" else rng.choice([-100.0, 0.0, 100.0], count, p=[0.4, 0.4, 0.2])

    low, high = paired_intervals(made[None])[:, 0]

    wanted = stats.bootstrap((made,), np.mean, n_resamples=20_000, method="percentile", rng=1).confidence_interval
    tolerance = 0.1 * made.std() / math.sqrt(count) + (100 / count if kind == "right or wrong" else 0.0)
    assert (low, high) == pytest.approx(tuple(wanted), abs=tolerance)


def test_intervals_cover_the_known_difference_in_95_percent_of_200_draws() -> None:
    differences = np.stack([np.random.default_rng(seed).normal(-7, 30, 100) for seed in range(200)])

    low, high = paired_intervals(differences)

    assert 0.90 <= np.mean((low <= -7) & (high >= -7)) <= 0.99


def test_an_effect_that_is_none_is_seldom_marked() -> None:
    rng = np.random.default_rng(3)
    differences = rng.choice([-100.0, 0.0, 100.0], (400, 50), p=[0.03, 0.94, 0.03])

    low, high = paired_intervals(differences)

    assert np.mean((low > 0) | (high < 0)) <= 0.08


def test_difference_and_interval_of_a_cell() -> None:
    found = only_delta(cell("dense", BASE), cell("sparse", WORSE))

    differences = np.subtract(WORSE, BASE)
    assert found.value == -50.0
    assert (found.low, found.high) == tuple(paired_intervals(differences[None], "needle/256")[:, 0])
    assert found.is_significant is True
    assert found.note == ""


def test_interval_does_not_hang_on_what_else_is_collected() -> None:
    alone = only_delta(cell("dense", BASE), cell("sparse", WORSE))

    (_, beside), _ = deltas(cell("dense", BASE), cell("other", BASE[::-1]), cell("sparse", WORSE))

    assert beside == alone


def test_samples_are_paired_by_id_and_not_by_place() -> None:
    ids = [f"s{number}" for number in range(len(BASE))]
    straight = only_delta(cell("dense", BASE, ids=ids), cell("sparse", WORSE, ids=ids))

    turned = only_delta(cell("dense", BASE, ids=ids), cell("sparse", WORSE[::-1], ids=ids[::-1]))

    assert turned == straight


def test_equal_differences_have_an_interval_of_zero_width() -> None:
    found = only_delta(cell("dense", [10.1, 30.2, 50.3]), cell("sparse", [20.2, 40.3, 60.4]))

    assert (found.value, found.low, found.high) == (10.1, 10.1, 10.1)
    assert found.is_significant is True


def test_no_difference_is_an_interval_of_zero_and_not_marked() -> None:
    found = only_delta(cell("dense", BASE), cell("sparse", BASE))

    assert (found.value, found.low, found.high, found.is_significant) == (0.0, 0.0, 0.0, False)
    assert math.copysign(1, found.low or 0.0) == 1


def test_many_samples_are_resampled_in_parts() -> None:
    differences = np.random.default_rng(0).normal(-1, 10, (2, 5_000))

    low, high = paired_intervals(differences)

    error = 1.96 * differences.std(axis=1) / math.sqrt(5_000)
    assert (high - low) / 2 == pytest.approx(error, rel=0.1)


# No interval


@pytest.mark.parametrize(
    ("base", "mine", "note"),
    [
        (cell("dense", BASE), cell("sparse", BASE[:-1]), "other samples: 7, the baseline 8"),
        (cell("dense", [1, 2], ids=["a", "b"]), cell("sparse", [1, 2], ids=["a", "c"]), "other sample ids"),
        (cell("dense", [1, 2], ids=["a", "a"]), cell("sparse", [1, 2], ids=["a", "a"]), "occurs twice"),
        (cell("dense", [1, 2, 3], ids="aab"), cell("sparse", [1, 2, 3], ids="abb"), "occurs twice"),
        (cell("dense", [50.0]), cell("sparse", [20.0]), "one sample alone"),
        (cell("dense", BASE), cell("sparse", BASE, score=40.0), "no mean over samples"),
        (cell("dense", BASE, score=40.0), cell("sparse", BASE), "no mean over samples"),
        (cell("dense", [1.0, math.nan], score=1.0), cell("sparse", [1.0, 2.0]), "no number"),
        (cell("dense", [1.0, 2.0]), cell("sparse", [1.0, math.inf], score=1.0), "no number"),
        (cell("dense", BASE, column=""), cell("sparse", BASE, column=""), "no scores of single samples"),
        (cell("dense", [], score=1.0), cell("sparse", [], score=2.0), "no scores of single samples"),
    ],
)
def test_without_paired_samples_there_is_a_difference_and_a_reason(base: Cell, mine: Cell, note: str) -> None:
    found = only_delta(base, mine)

    assert found.value == pytest.approx((mine.score or 0) - (base.score or 0))
    assert (found.low, found.high, found.is_significant) == (None, None, None)
    assert note in found.note


def test_score_rounded_to_a_decimal_is_still_the_mean() -> None:
    assert only_delta(cell("dense", [0, 0, 100], score=33.3), cell("sparse", [0, 100, 100], score=66.7)).note == ""


def test_baseline_without_a_score_is_said() -> None:
    base = cell("dense", BASE)
    failed = Cell(base.stub, "failed", 2)

    assert only_delta(failed, cell("sparse", WORSE)) == Delta(note="no score of the baseline (failed)")
    assert only_delta(cell("sparse", WORSE)) == Delta(note="no score of the baseline (not in the sweep)")
    assert only_delta(Cell(base.stub, "complete", 1), cell("sparse", WORSE)).note.endswith("(not scored)")


def test_cells_without_a_score_are_not_compared() -> None:
    sparse = cell("sparse", WORSE)

    assert deltas(cell("dense", BASE), Cell(sparse.stub, "pending", 0))[0] == []


# Averages


def test_average_has_an_interval_of_its_own() -> None:
    rng = np.random.default_rng(5)
    group = Group("needle", "mean", {"256": 1.0, "512": 3.0})
    parts = {name: rng.normal(-4, 20, 100) for name in group.weights}
    cells = [cell("dense", [50.0] * 100, subset=name) for name in parts]
    cells += [cell("sparse", list(50 + part), subset=name) for name, part in parts.items()]

    _, found = deltas(*cells, groups=[group])

    delta = found.averages["m", "sparse", "needle", "mean"]
    short, long = parts.values()
    wanted = stats.bootstrap(
        (short, long),
        lambda a, b, axis: (a.mean(axis) + 3 * b.mean(axis)) / 4,
        n_resamples=20_000,
        method="percentile",
        rng=1,
        vectorized=True,
    ).confidence_interval
    assert delta.value == pytest.approx((short.mean() + 3 * long.mean()) / 4)
    assert (delta.low, delta.high) == pytest.approx(tuple(wanted), abs=0.2)
    assert (delta.subsets, delta.note) == (2, "")


def test_average_is_over_the_subsets_that_both_have_and_says_so() -> None:
    group = Group("needle", "mean", {"256": 1.0, "512": 1.0, "1024": 1.0})
    cells = [cell(name, BASE if name == "dense" else WORSE, subset="256") for name in ("dense", "sparse")]
    cells += [cell("dense", BASE, subset="512"), cell("sparse", WORSE, subset="1024")]

    stubs, found = deltas(*cells, groups=[group])

    delta = found.averages["m", "sparse", "needle", "mean"]
    assert (delta.value, delta.low, delta.subsets) == (-50.0, stubs[0].low, 1)
    assert delta.note == "over 1 of 3 subsets"


def test_average_without_an_interval_names_the_subset() -> None:
    group = Group("needle", "mean", {"256": 1.0, "512": 1.0})
    cells = [cell(name, BASE, subset="256") for name in ("dense", "sparse")]
    cells += [cell(name, [50.0], subset="512") for name in ("dense", "sparse")]

    delta = deltas(*cells, groups=[group])[1].averages["m", "sparse", "needle", "mean"]

    assert (delta.value, delta.low, delta.note) == (0.0, None, "512: one sample alone")


# Reading


def test_column_is_the_headline_or_the_first(tmp_path: Path) -> None:
    path = tmp_path / "raw_results.csv"
    path.write_text('sample_id,score_a,score_b\r\n"x\n1",1.5,2.5\r\n2,,oops\r\n')

    first, named = read_sample_scores(path), read_sample_scores(path, "b")

    assert (first.ids, first.column, first.values[0]) == (("x\n1", "2"), "a", 1.5)
    assert math.isnan(first.values[1])
    assert (named.column, named.values[0]) == ("b", 2.5)
    assert read_sample_scores(path, "c").column == ""


# The command


@pytest.fixture
def compared(tmp_path: Path) -> ExecutionDir:
    """Two needle lengths; `streaming` is 30 points below `dense`."""
    execution = prepare(tmp_path, model_names=["org/alpha"], benchmark_configs={"needle": [256, 512]})
    for stub in stubs_of(execution):
        publish(execution, stub, 80.0 if stub.attention == "dense" else 50.0)
    return execution


def summary_of(execution: ExecutionDir) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(execution.summary_json.read_text())
    return data


def test_table_shows_the_difference_with_its_interval_and_mark(compared: ExecutionDir) -> None:
    result = run_cli("collect", compared.path)

    assert result.exit_code == 0
    assert "difference to dense, with its 95 % interval" in result.stdout
    assert "-30.00 [-30.00, -30.00] *" in result.stdout
    assert "* the interval excludes 0" in result.stdout
    assert "incomplete set" not in result.stdout


def test_table_shows_each_subset_where_these_are_few(compared: ExecutionDir) -> None:
    lines = run_cli("collect", compared.path).stdout.partition("difference to dense")[2].splitlines()

    heading = next(line for line in lines if "model" in line)
    assert [name in heading for name in ("needle 256", "needle 512", "needle mean")] == [True] * 3
    (row,) = [line for line in lines if "streaming" in line]
    assert row.count("-30.00 [-30.00, -30.00] *") == 3


def test_baseline_without_a_result_yet_is_said_with_its_state(compared: ExecutionDir) -> None:
    stub = next(stub for stub in stubs_of(compared) if stub.attention == "dense")
    shutil.rmtree(compared.result(stub.result_path))

    output = run_cli("collect", compared.path).stdout

    assert "needle 256: no score of the baseline (running) (1 difference)" in output


def test_files_hold_the_differences(compared: ExecutionDir) -> None:
    run_cli("collect", compared.path)

    names = ("baseline", "delta", "delta_low", "delta_high", "delta_significant", "delta_note")
    summary = summary_of(compared)
    assert summary["baseline"] == "dense"
    assert [[stub[name] for name in names] for stub in summary["stubs"][::2]] == [
        ["dense", None, None, None, None, ""],
        ["dense", -30.0, -30.0, -30.0, True, ""],
    ]
    dense, streaming = summary["averages"]
    assert (dense["average"], dense["score"], dense["delta"]) == ("mean", 80.0, None)
    assert (streaming["score"], streaming["delta"], streaming["delta_significant"]) == (50.0, -30.0, True)
    assert (streaming["scored"], streaming["subsets"], streaming["complete"]) == (2, 2, True)
    rows = list(csv.DictReader(io.StringIO(compared.summary_csv.read_text())))
    assert [rows[2][name] for name in names] == ["dense", "-30.0", "-30.0", "-30.0", "True", ""]
    assert [rows[0][name] for name in names] == ["dense", "", "", "", "", ""]


def test_results_in_earlier_form_are_compared(compared: ExecutionDir) -> None:
    for stub in stubs_of(compared):
        folder = compared.result(stub.result_path)
        metrics = json.loads((folder / "metrics.json").read_text())
        del metrics["headline"]
        (folder / "metrics.json").write_text(json.dumps(metrics))
        rewrite_json(folder / "stub.json", sha256={})

    assert run_cli("collect", compared.path).exit_code == 0
    assert summary_of(compared)["stubs"][2]["delta_low"] == -30.0


def test_other_baseline_can_be_named(compared: ExecutionDir) -> None:
    result = run_cli("collect", compared.path, "--baseline", "streaming")

    assert "difference to streaming" in result.stdout
    assert "+30.00 [30.00, 30.00] *" in result.stdout
    assert summary_of(compared)["stubs"][0]["baseline"] == "streaming"


def test_unknown_baseline_is_one_line_with_the_valid_names(compared: ExecutionDir) -> None:
    result = run_cli("collect", compared.path, "--baseline", "streamin")

    assert result.exit_code == 2
    assert "did you mean 'streaming'? (valid: dense, streaming)" in result.stderr
    assert result.stderr.count("\n") == 1
    assert not compared.summary_json.exists()


def test_sweep_names_the_baseline(tmp_path: Path) -> None:
    plain, named = prepare(tmp_path / "a"), prepare(tmp_path / "b", baseline="streaming")
    publish_all(named)

    result = run_cli("collect", named.path)

    assert read_header(named).baseline == "streaming"
    assert stubs_of(named) == stubs_of(plain)
    assert "difference to streaming" in result.stdout


def test_without_dense_nothing_is_compared_and_that_is_said(tmp_path: Path) -> None:
    execution = prepare(tmp_path, sparse_attention_configs={"streaming": [{"sink": 4}], "wide": [{"local": 8}]})
    publish_all(execution)

    result = run_cli("collect", tmp_path)

    assert result.exit_code == 0
    assert "no config is called dense, so nothing is compared; --baseline CONFIG names one" in result.stdout
    assert "difference" not in result.stdout
    assert summary_of(execution)["baseline"] is None


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("densee", r"unknown sparse attention config .*valid: dense, streaming\)"),
        *((wrong, "must be one name, that of a sparse attention config") for wrong in (7, ["dense"], True)),
    ],
)
def test_unknown_baseline_in_a_sweep_is_refused(tmp_path: Path, wrong: object, said: str) -> None:
    with pytest.raises(SweepError, match=f"^baseline: {said}$"):
        parse_sweep(sweep_data(tmp_path, baseline=wrong))


def test_baseline_that_failed_leaves_a_line(compared: ExecutionDir) -> None:
    stub = next(stub for stub in stubs_of(compared) if stub.attention == "dense")
    (compared.result(stub.result_path) / "metrics.json").write_text("{}")

    result = run_cli("collect", compared.path)

    assert result.exit_code == 1
    assert "-30.00 [-30.00, -30.00] * 1/2" in result.stdout
    assert "needle mean: over 1 of 2 subsets (1 difference)" in result.stdout
    assert summary_of(compared)["stubs"][2]["delta_note"] == "no score of the baseline (invalid)"
