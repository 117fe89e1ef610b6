"""The public door for plug-ins: what goes through it, and that the examples use no other."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path

import pytest

from hpc_bench import plugin
from hpc_bench.plugin_checks import check_benchmark

EXAMPLES = Path(__file__).parents[1] / "examples"
PACKAGES = [
    path for folder in ("custom_benchmark", "custom_masker") for path in sorted((EXAMPLES / folder).glob("*.py"))
]
PUBLIC = {"hpc_bench.plugin", "hpc_bench.plugin_checks"}
PROMISED = {
    *("AdapterError", "Answer", "AttentionConfig", "AttentionInputs", "Benchmark", "Chain", "DatasetError"),
    *("DeviceError", "Generation", "HubRepo", "Json", "Masker", "Metric", "ModelAdapter", "ModelOptions", "ModelShape"),
    *("PluginError", "Prefill", "PromptTokens", "Row", "Sample", "Scores", "SubsetSize", "SweepError"),
    *("TableBenchmark", "Tokens", "Truncation", "attention_weights", "by_key_head", "check_size", "exact_scores"),
    *("grouped_product", "keep_best", "kept_tokens", "keys_of_size", "note_keys", "per_query_head", "prompt_tokens"),
    *("uniform", "unknown_name"),
}


def imported_modules(source: str) -> set[str]:
    """The modules of hpc_bench that a file imports, at any place in it."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module == "hpc_bench":
            found |= {f"hpc_bench.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return {name for name in found if name.split(".")[0] == "hpc_bench"}


@pytest.mark.parametrize("path", PACKAGES, ids=lambda path: path.name)
def test_example_packages_import_the_public_modules_alone(path: Path) -> None:
    modules = imported_modules(path.read_text())

    assert modules
    assert modules <= PUBLIC


def test_both_example_packages_have_a_module_and_tests() -> None:
    assert {path.name for path in PACKAGES} == {
        *("hpc_bench_sums.py", "test_sums.py"),
        *("hpc_bench_strided.py", "test_strided.py"),
    }


def test_benchmark_that_the_guide_shows_keeps_the_contract(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (EXAMPLES.parent / "CONTRIBUTING.md").read_text(), re.DOTALL)
    (tmp_path / "shown_in_the_guide.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)

    shown = importlib.import_module("shown_in_the_guide")

    assert imported_modules(code) <= PUBLIC
    check_benchmark(shown.Capitals())


def test_promised_names_are_there_in_order() -> None:
    assert set(plugin.__all__) >= PROMISED
    assert plugin.__all__ == sorted(plugin.__all__)
    assert all(getattr(plugin, name) is not None for name in plugin.__all__)


def test_other_names_are_refused() -> None:
    with pytest.raises(AttributeError, match="no attribute 'catalog'"):
        _ = plugin.catalog  # type: ignore[attr-defined]
