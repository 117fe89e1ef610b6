"""A plug-in's code is part of what a result is of; a comment in it is not."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from hpc_bench import catalog
from hpc_bench.attention.maskers.sink import Sink
from hpc_bench.execution.folder import ExecutionDir
from hpc_bench.source_digest import source_digest
from tests.support.builders import prepare, publish_all, run_cli, stubs_of, tree, write_sweep

CODE = '''"""Every other key."""

from dataclasses import dataclass

from hpc_bench.plugin import Masker


@dataclass(frozen=True)
class Other(Masker):
    """Keeps every other key."""

    first: int = 0

    def select(self, inputs, kept):
        """Adds keys."""
        return kept.masked_fill(inputs.visible, 0.5)  # the half
'''
CHANGES = {
    "model_names": ["org/alpha"],
    "sparse_attention_configs": {"dense": None, "other": [{"other": 1}]},
    "benchmark_configs": {"needle": [256]},
}


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file of an installed plug-in with the masker `other`."""
    folder = tmp_path / "site"
    folder.mkdir()
    file = folder / "my_other_masker.py"
    file.write_text(CODE)
    monkeypatch.syspath_prepend(str(folder))
    point = EntryPoint("other", "my_other_masker:Other", "hpc_bench.maskers")
    monkeypatch.setattr(catalog, "_plug_ins", lambda kind: {"other": point} if kind == "masker" else {})
    catalog.resolve.cache_clear()
    catalog.name_of.cache_clear()
    yield file
    sys.modules.pop("my_other_masker", None)
    importlib.invalidate_caches()
    catalog.resolve.cache_clear()
    catalog.name_of.cache_clear()


@pytest.fixture
def done(module: Path, tmp_path: Path) -> tuple[ExecutionDir, Path]:
    """Both stubs complete, and the sweep file."""
    execution = prepare(tmp_path / "results", **CHANGES)
    publish_all(execution)
    return execution, write_sweep(tmp_path, **CHANGES)


def edit(module: Path, old: str, new: str) -> None:
    assert old in module.read_text()
    module.write_text(module.read_text().replace(old, new))


def test_comments_docstrings_and_layout_make_nothing_stale(done: tuple[ExecutionDir, Path], module: Path) -> None:
    _, sweep = done
    edit(module, "  # the half", "")
    edit(module, '        """Adds keys."""\n', "")
    edit(module, "Keeps every other key.", "Keeps every second key.")
    edit(module, "masked_fill(inputs.visible, 0.5)", "masked_fill(\n            inputs.visible, 0.5\n        )")

    plan = json.loads(run_cli("plan", "--gpus", "none", "--json", sweep).stdout)

    assert (plan["complete"], plan["stale"]) == (2, 0)


def test_edited_masker_makes_its_own_results_stale_and_says_so(done: tuple[ExecutionDir, Path], module: Path) -> None:
    _, sweep = done
    edit(module, "0.5", "0.25")

    shown = run_cli("plan", "--gpus", "none", sweep).stdout
    refused = run_cli("submit", "--gpus", "none", sweep)

    assert "1 complete, 1 stale" in shown
    assert "stale: org/alpha/other/needle/256: code changed: other" in shown
    assert "1 stale results differ in the code of a plug-in alone; --accept-code keeps them" in shown
    assert refused.exit_code == 2
    assert "code changed: other" in refused.stderr
    assert "--accept-code" in refused.stderr


@pytest.mark.usefixtures("no_workers")
def test_accepted_code_keeps_the_results_and_is_recorded(done: tuple[ExecutionDir, Path], module: Path) -> None:
    execution, sweep = done
    before = stubs_of(execution)[1]
    edit(module, "0.5", "0.25")

    kept = run_cli("submit", "--gpus", "none", "--accept-code", sweep)

    assert kept.exit_code == 0, kept.output
    assert "kept 1 results whose plug-ins' code alone has changed" in kept.stdout
    facts = json.loads((execution.result(before.result_path) / "stub.json").read_text())
    assert facts["accepted_code"][0]["fingerprint"] == before.fingerprint != facts["fingerprint"]
    assert json.loads(run_cli("plan", "--gpus", "none", "--json", sweep).stdout)["complete"] == 2
    assert (execution.result(before.result_path) / "earlier" / "1" / "stub.json").exists()
    assert run_cli("collect", execution.path).exit_code == 0


def test_what_differs_in_more_than_code_is_not_accepted(done: tuple[ExecutionDir, Path], module: Path) -> None:
    _, sweep = done
    edit(module, "0.5", "0.25")
    sweep.write_text(sweep.read_text().replace("other: 1", "other: 2"))

    refused = run_cli("submit", "--gpus", "none", "--accept-code", sweep)

    assert refused.exit_code == 2
    assert "attention.maskers" in refused.stderr


@pytest.mark.usefixtures("no_workers")
def test_nothing_is_accepted_where_other_results_stay_stale(done: tuple[ExecutionDir, Path], module: Path) -> None:
    execution, sweep = done
    edit(module, "0.5", "0.25")
    result = execution.result(stubs_of(execution)[0].result_path)
    (result / "metrics.json").unlink()
    before = tree(execution.path)

    refused = run_cli("submit", "--gpus", "none", "--accept-code", sweep)

    assert refused.exit_code == 2
    assert "invalid result" in refused.stderr
    assert tree(execution.path) == before


def test_key_that_ends_like_code_is_shown_with_its_values(tmp_path: Path) -> None:
    changes = {**CHANGES, "sparse_attention_configs": {"dense": None}}
    publish_all(prepare(tmp_path / "results", **changes))
    sweep = write_sweep(tmp_path, **changes, request_kwargs={"encode": "parts"})

    shown = run_cli("plan", "--gpus", "none", sweep).stdout

    assert "request.encode: 'whole' is on disk, 'parts' in the sweep" in " ".join(shown.split())


def test_raised_version_of_a_built_in_masker_makes_results_stale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {**CHANGES, "sparse_attention_configs": {"dense": None, "sinks": [{"sink": 4}]}}
    publish_all(prepare(tmp_path / "results", **changes))
    sweep = write_sweep(tmp_path, **changes)

    monkeypatch.setattr(Sink, "version", 2)
    shown = run_cli("plan", "--gpus", "none", sweep).stdout

    assert "1 complete, 1 stale" in shown
    assert "sink (version 2)" in shown


def test_package_is_read_whole_and_never_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "my_whole_package"
    (package / "inner").mkdir(parents=True)
    (package / "__init__.py").write_text("raise SystemExit('imported')\n")
    (package / "inner" / "rules.py").write_text("SHARE = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    point = EntryPoint("whole", "my_whole_package.inner.rules:Rule", "hpc_bench.maskers")
    first = source_digest(point)

    (package / "inner" / "rules.py").write_text("SHARE = 2\n")

    assert source_digest(point) != first
    assert "my_whole_package" not in sys.modules


def test_file_that_is_no_python_hides_no_edit_of_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "my_templates"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "template.py").write_text("class {{name}}:\n")
    (package / "rules.py").write_text("SHARE = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    point = EntryPoint("templates", "my_templates.rules:Rule", "hpc_bench.maskers")
    first = source_digest(point)

    (package / "rules.py").write_text("SHARE = 2\n")

    assert source_digest(point) != first


def test_package_without_source_counts_by_its_version() -> None:
    assert source_digest(EntryPoint("gone", "no_such_package_at_all:Rule", "hpc_bench.maskers")) == "version unknown"
