"""Plug-ins that cannot be used: planning refuses them, and what they left on disk can still be collected."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from hpc_bench import catalog
from tests.support.builders import prepare, publish, run_cli, stubs_of, write_sweep
from tests.support.refusals import assert_refused

pytestmark = pytest.mark.usefixtures("no_workers")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("raise RuntimeError('no luck')", "cannot be loaded: RuntimeError: no luck"),
        ("raise SystemExit(3)", "cannot be loaded: SystemExit: 3"),
        ("1 +", "cannot be loaded: SyntaxError: invalid syntax"),
        ("class Odd: pass", "is no dataclass"),
        ("def Odd(): pass", "is no dataclass"),
    ],
)
def test_plug_in_that_cannot_be_used_is_one_line_and_keeps_no_result_from_being_collected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, words: str
) -> None:
    points = {"odd": EntryPoint("odd", "tests.cli.test_benchmarks_command:Proper", "hpc_bench.benchmarks")}
    monkeypatch.setattr(catalog, "_plug_ins", lambda _: points)
    execution = prepare(tmp_path / "results", benchmark_configs={"odd": None, "mock_benchmark": None})
    for stub in stubs_of(execution):
        publish(execution, stub)
    (tmp_path / "odd_plug_in.py").write_text(body)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, "odd_plug_in", None)
    del sys.modules["odd_plug_in"]
    points["odd"] = EntryPoint("odd", "odd_plug_in:Odd", "hpc_bench.benchmarks")
    catalog.resolve.cache_clear()

    for kind, wrong in (
        ("benchmark", {"benchmark_configs": {"odd": None}}),
        ("masker", {"sparse_attention_configs": {"x": [{"odd": 4}]}}),
    ):
        assert_refused(run_cli("plan", write_sweep(tmp_path, **wrong)), f"{kind} 'odd'", "odd_plug_in:Odd", words)
    collected = run_cli("collect", execution.path)

    assert collected.exit_code == 0, collected.output
    assert "8 complete" in collected.stdout
    assert words in " ".join(collected.stdout.split())
