"""Sweep files that are not sweeps or cannot be read, and models in local folders."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.builders import run_cli, tree, write_sweep
from tests.support.refusals import assert_refused

pytestmark = pytest.mark.usefixtures("no_workers")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ("is empty", "hpc-bench init")),
        (b"# nothing but a comment\n", ("is empty", "hpc-bench init")),
        (b"model_names: [demo/tiny-2l\nx: 1\n", ("line 2", "not valid YAML")),
        (b"a: b: c\n", ("line 1", "not valid YAML")),
        (b"\tname: x\n", ("line 1", "not valid YAML")),
        (b"- a\n- b\n", ("mapping", "model_names")),
        (b"just text\n", ("mapping", "model_names")),
        (b"1: 2\n", ("line 1", "key 1 must be text", "quotes")),
        (b"name: a\nname: b\n", ("line 2", "duplicate key 'name'")),
        (b"benchmark_configs:\n  needle: [256]\n  needle: [512]\n", ("line 3", "duplicate key 'needle'")),
        (b"? [a, b]\n: c\n", ("line 1", "not valid YAML")),
        (b"name: &x a\nbase_result_dir: *x\n", ("line 2", "aliases")),
        (b"a: 1\n---\nb: 2\n", ("not valid YAML",)),
        (b"name: a\0b\n", ("not valid YAML", "x0000")),
        (b"name: \xff\xfe\xfa\n", ("not valid YAML",)),
        (b"name: !!python/object/apply:os.system [ls]\n", ("name: line 1", "tags such as !!python/object")),
        (b"name: !!bool maybe\n", ("name: line 1", "tags such as !!bool")),
        (b"name: !!timestamp maybe\n", ("name: line 1", "tags such as !!timestamp")),
        (b"name: !!int ''\n", ("name: line 1", "tags such as !!int")),
        (b"name: !!map ab\n", ("name: line 1", "tags such as !!map")),
        (b"name: 2020-13-45\n", ("name: line 1", "2020-13-45 is a date", "quotes")),
        (b"name: " + b"[" * 3000, ("not valid YAML",)),
        (b"name: " + b"{a: " * 2000 + b"1" + b"}" * 2000, ("not valid YAML",)),
        (b"#" * 10_000_001, ("larger than", "bytes")),
    ],
    ids=lambda value: repr(value[:40]) if isinstance(value, bytes) else "",
)
def test_file_that_is_no_sweep_is_one_line(tmp_path: Path, content: bytes, words: tuple[str, ...]) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_bytes(content)
    before = tree(tmp_path)

    for command in ("plan", "submit"):
        result = run_cli(command, path)

        assert_refused(result, f"Error: {path}: ", *words)
        assert tree(tmp_path) == before


@pytest.mark.parametrize("command", ["plan", "submit"])
def test_file_that_cannot_be_read_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    monkeypatch.chdir(tmp_path)
    before = tree(tmp_path)

    assert_refused(run_cli(command), "./sweep.yaml", "hpc-bench init")
    assert_refused(run_cli(command, "nowhere.yaml"), "nowhere.yaml: ", "No such file", "hpc-bench init")
    assert_refused(run_cli(command, tmp_path), f"{tmp_path}: ", "directory")
    assert_refused(run_cli(command, "x" * 300), "too long")
    assert_refused(run_cli(command, "/dev/zero"), "/dev/zero: ", "larger than")
    assert tree(tmp_path) == before


def test_local_folders_that_mean_one_model_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    path = write_sweep(tmp_path, model_names=[str(folder), f"{tmp_path}/./model"])

    assert_refused(run_cli("plan", path), f"{path}: model_names: ", str(folder), "twice")


def test_model_folder_without_config_is_refused(tmp_path: Path) -> None:
    path = write_sweep(tmp_path, model_names=[str(tmp_path)])

    assert_refused(run_cli("plan", path), "model_names.0: ", "config.json")


def test_missing_section_values_mean_the_default(tmp_path: Path) -> None:
    sections = ("adapter_config", "generation_kwargs", "request_kwargs", "limits", "local", "slurm")
    path = write_sweep(tmp_path, **dict.fromkeys((*sections, "include", "exclude", "max_concurrent_runs")))

    result = run_cli("plan", "--gpus", "none", "--json", path)

    assert result.exit_code == 0
    assert json.loads(result.stdout)["stubs"] == 12
