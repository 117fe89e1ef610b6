"""Files that could be read for ever, or for minutes: pipes, devices, whole filesystems, very long sweeps."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from hpc_bench.errors import SweepError
from hpc_bench.sweep.plain_yaml import load_yaml
from hpc_bench.sweep.reading import read_yaml

PATIENCE_S = 120


def plan(sweep: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hpc_bench", "plan", str(sweep)]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, stdin=subprocess.DEVNULL)


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "default.jsonl")
    return tmp_path / "default.jsonl"


def refused(tmp_path: Path, sweep: str) -> str:
    file = tmp_path / "sweep.yaml"
    file.write_text(sweep)
    made = plan(file)
    assert made.returncode == 2, made.stderr
    assert len(made.stderr.splitlines()) == 1
    return made.stderr


@pytest.mark.parametrize("kind", ["pipe", "device", "socket"])
@pytest.mark.parametrize(
    "benchmark", ["mine: {data: %s, metric: exact_match}", "longbench: {data: %s, subsets: [qasper]}"]
)
def test_data_that_is_no_file_is_refused(tmp_path: Path, pipe: Path, benchmark: str, kind: str) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket"))
        data = {"pipe": pipe, "device": "/dev/zero", "socket": tmp_path / "socket"}[kind]

        said = refused(tmp_path, f"{{model_names: [demo/tiny-2l], benchmark_configs: {{{benchmark % data}}}}}")

    assert f"{data} is a device, a pipe or a socket; give a file or folder" in said


def test_pipe_in_a_folder_of_data_is_refused(tmp_path: Path, pipe: Path) -> None:
    pipe.rename(tmp_path / "qasper.jsonl")
    sweep = (
        f"{{model_names: [demo/tiny-2l], benchmark_configs: {{longbench: {{data: {tmp_path}, subsets: [qasper]}}}}}}"
    )

    assert "qasper.jsonl is a device, a pipe or a socket" in refused(tmp_path, sweep)


def test_whole_filesystem_is_not_searched_for_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hpc_bench.benchmarks.data import local_files

    monkeypatch.setattr(local_files, "_MOST_FILES", 50)
    for number in range(51):
        (tmp_path / f"{number}.txt").touch()

    with pytest.raises(SweepError, match="holds more than 50 files; name the folder of the data alone"):
        local_files.data_files(tmp_path, "test")


@pytest.mark.parametrize("model", ["/dev/zero", "./default.jsonl"])
def test_model_that_is_no_folder_is_refused(tmp_path: Path, pipe: Path, model: str) -> None:
    sweep = f"{{model_names: ['{model}'], benchmark_configs: {{mock_benchmark: }}}}"

    assert pipe.is_fifo()
    assert "is not a model folder" in refused(tmp_path, sweep)


def test_pipe_without_a_writer_is_no_sweep(pipe: Path) -> None:
    made = plan(pipe)

    assert made.returncode == 2
    assert "is a pipe or a socket; name a sweep file" in made.stderr


def test_endless_sweep_is_refused() -> None:
    assert "is larger than" in plan(Path("/dev/zero")).stderr


def test_sweep_that_a_shell_hands_over_is_read() -> None:
    reading, writing = os.pipe()
    os.write(writing, b"model_names: [demo/tiny-2l]\n")
    os.close(writing)

    assert read_yaml(Path(f"/dev/fd/{reading}")) == {"model_names": ["demo/tiny-2l"]}


def test_long_list_is_read_by_the_fast_parser(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 4 MB, it takes seconds; by PyYAML's own, which explains errors better, many times as long."""

    def read_slowly(*_: object) -> None:
        raise AssertionError("PyYAML's own parser was used")

    monkeypatch.setattr("yaml.parser.Parser.get_event", read_slowly)

    assert load_yaml("[" + "1, " * 1000 + "1]") == [1] * 1001
