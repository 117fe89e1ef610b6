"""Every wrong argument of a command ends in one line, exit code 2, and a disk as it was before."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.builders import fail, prepare, publish, run_cli, stubs_of, tree, write_sweep
from tests.support.refusals import assert_refused, reading_commands
from tests.support.running import PATIENCE_S

pytestmark = pytest.mark.usefixtures("no_workers")


def test_wrong_gpus_are_refused(tmp_path: Path) -> None:
    path = write_sweep(tmp_path)
    before = tree(tmp_path)

    for value in ("x", "0,0", "-1", "", "0,", "999999"):
        assert_refused(run_cli("submit", "--gpus", value, path), "--gpus: ", value)
    assert_refused(run_cli("submit", "--gpus", "4711", path), "no GPU 4711", "visible: ")
    assert tree(tmp_path) == before


def test_folder_without_executions_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    before = tree(tmp_path)

    for command in reading_commands(tmp_path / "nowhere"):
        assert_refused(run_cli(*command), "nowhere: ", "no such folder")
    for command in reading_commands(tmp_path / "file"):
        assert_refused(run_cli(*command), "file: is a file; name a base result dir")
    for command in reading_commands(tmp_path / "empty"):
        assert_refused(run_cli(*command), "empty: ", "no execution", "hpc-bench submit")
    for command in reading_commands(Path("x" * 300)):
        assert_refused(run_cli(*command), "no such folder")
    assert tree(tmp_path) == before


def test_folder_of_a_result_is_refused_with_the_execution_it_is_of(tmp_path: Path) -> None:
    execution = prepare(tmp_path)
    result = publish(execution, stubs_of(execution)[0])

    for command in reading_commands(result):
        assert_refused(run_cli(*command), f"{result}: is a part of an execution", f"name the whole, {execution.path}\n")


def test_unknown_execution_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    execution = prepare(tmp_path)

    for command in reading_commands(tmp_path):
        for name in ("execution_20200101_000000", "../x", "/tmp", ""):
            assert_refused(run_cli(*command, "--execution", name), "no execution", execution.path.name)


def test_unknown_stub_of_logs_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    execution = prepare(tmp_path)

    assert_refused(run_cli("logs", tmp_path, "gamma"), "unknown stub 'gamma'", stubs_of(execution)[0].title)
    assert_refused(run_cli("logs", tmp_path, "alpha"), "'alpha' matches 6 stubs", "name one")
    assert_refused(run_cli("logs", tmp_path, stubs_of(execution)[0].title), "not been started")


def test_log_that_is_gone_is_one_line(tmp_path: Path) -> None:
    execution = prepare(tmp_path)
    stub = stubs_of(execution)[0]
    fail(execution, stub)

    assert_refused(run_cli("logs", tmp_path, stub.title), stub.title, "log", "w.engine1.log")


def test_init_leaves_an_existing_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_text("mine")

    assert_refused(run_cli("init", path), f"{path}: ", "exists already")
    assert_refused(run_cli("init", tmp_path / "no" / "x.yaml"), "cannot be written")
    assert path.read_text() == "mine"


def test_package_is_a_program() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "hpc_bench", "--version"], capture_output=True, text=True, check=True, timeout=PATIENCE_S
    )

    assert done.stdout.startswith("python -m hpc_bench, version ")


def test_console_script_shows_one_line_and_no_traceback(tmp_path: Path) -> None:
    path = write_sweep(tmp_path, model_names=[])

    done = subprocess.run(
        [sys.executable, "-m", "hpc_bench", "plan", str(path)], capture_output=True, text=True, check=False
    )

    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == (f"Error: {path}: model_names: must be a list of model names, with at least one entry\n")
