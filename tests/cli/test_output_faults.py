"""What a command prints cannot be written: one line, an exit code, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.builders import prepare, publish_all, write_sweep

FULL = "Error: standard output cannot be written: No space left on device\n"


def told(result: subprocess.CompletedProcess[str], line: str) -> bool:
    """Whether all that a command said is that line, and its exit code is that of a circumstance to be mended."""
    return (result.returncode, result.stderr) == (2, line)


def run_into(output: int, *arguments: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """`hpc-bench` in a process of its own, since what Python says at its end counts too."""
    return subprocess.run(
        [sys.executable, "-m", "hpc_bench", *map(str, arguments)],
        stdout=output,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
        env={**os.environ, **environment},
        check=False,
    )


@pytest.fixture
def full_disk() -> Iterator[int]:
    output = os.open("/dev/full", os.O_WRONLY)
    yield output
    os.close(output)


@pytest.fixture
def closed_pipe() -> Iterator[int]:
    reader, writer = os.pipe()
    os.close(reader)
    yield writer
    os.close(writer)


@pytest.mark.parametrize(
    "command",
    [
        ["--help"],
        ["--version"],
        ["init"],
        ["plan", "--gpus", "none"],
        ["plan", "--gpus", "none", "--json"],
        ["submit", "--gpus", "none", "--dry-run"],
        ["prefetch", "--set", "model_names=[demo/tiny-2l]"],
        ["status"],
        ["status", "--json"],
        ["collect"],
        ["rescore"],
        ["cancel"],
        ["attention", "list"],
        ["benchmarks", "list"],
    ],
    ids=" ".join,
)
def test_full_disk_under_the_output_is_one_line(tmp_path: Path, full_disk: int, command: list[str]) -> None:
    publish_all(prepare(tmp_path / "results"))
    if command != ["init"]:
        write_sweep(tmp_path)

    assert told(run_into(full_disk, *command, cwd=tmp_path), FULL)


def test_submit_starts_nothing_where_its_plan_cannot_be_shown(tmp_path: Path, full_disk: int) -> None:
    write_sweep(tmp_path)

    assert told(run_into(full_disk, "submit", "--gpus", "none", cwd=tmp_path), FULL)
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("command", [["status"], ["status", "--json"], ["--help"]], ids=" ".join)
def test_closed_pipe_is_one_line(tmp_path: Path, closed_pipe: int, command: list[str], unbuffered: str) -> None:
    prepare(tmp_path / "results")

    result = run_into(closed_pipe, *command, cwd=tmp_path, PYTHONUNBUFFERED=unbuffered)

    assert told(result, "Error: the reader of the output ended before all of it was written\n")
