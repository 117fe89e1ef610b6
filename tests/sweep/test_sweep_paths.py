"""Paths in a sweep: begin beside its file, may hold `~` and variables, and are stored whole."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from hpc_bench.attention.model_shape import read_shape
from hpc_bench.execution.header import Header
from hpc_bench.sweep.plan import make_plan
from hpc_bench.sweep.sweep import load_sweep
from tests.support.builders import run_cli, tree, write_sweep
from tests.support.maskers import write_channels
from tests.support.places import TINY
from tests.support.refusals import assert_refused

pytestmark = pytest.mark.usefixtures("no_workers")

Keys = Mapping[str, Any]
ROW = {"context": "Ann lives here.", "question": "Who?", "answer": "Ann"}


def make_files(folder: Path) -> None:
    """One of each kind of file that a sweep names."""
    folder.mkdir(exist_ok=True)
    (folder / "rows.jsonl").write_text(json.dumps(ROW) + "\n")
    (folder / "essays.txt").write_text("An essay of some words. " * 100)
    shape = read_shape(str(TINY), None)
    assert shape is not None
    write_channels(folder / "channels.safetensors", shape)
    shutil.copytree(TINY, folder / "model")


def own_data(path: str) -> Keys:
    return {"benchmark_configs": {"mine": {"data": f"{path}/rows.jsonl", "metric": "qa_f1", "max_new_tokens": 8}}}


def ruler(path: str) -> Keys:
    subsets = ["4096_niah_single_2"]
    options = {"subsets": subsets, "source": "generate", "samples": 1, "essays": f"{path}/essays.txt"}
    return {"benchmark_configs": {"ruler": options}}


def masker(path: str) -> Keys:
    chain = [{"double_sparsity": {"heavy": 8, "channels": f"{path}/channels.safetensors"}}]
    return {"model_names": ["demo/tiny-2l"], "sparse_attention_configs": {"ds": chain}}


def model(path: str) -> Keys:
    return {"model_names": [f"{path}/model"]}


def stored(header: Header) -> set[str]:
    """The paths that a manifest would hold."""
    options = [value for spec in header.benchmarks.values() for value in spec.options.values()]
    options += [value for spec in header.attentions.values() for _, masker in spec.maskers for value in masker.values()]
    sources = [spec.source for spec in header.models.values()]
    found = {str(value) for value in [*options, *sources] if str(value).startswith((".", "/", "~", "$"))}
    return found - {str(TINY)}


KINDS = {
    "rows.jsonl": (own_data, "benchmark_configs.mine.data: "),
    "essays.txt": (ruler, "benchmark_configs.ruler.essays: "),
    "channels.safetensors": (masker, "sparse_attention_configs.ds.0.double_sparsity.channels: "),
    "model": (model, "model_names.0: "),
}
OF_EACH_KIND = pytest.mark.parametrize(
    ("name", "keys", "key"), [(name, *kind) for name, kind in KINDS.items()], ids=list(KINDS)
)


@OF_EACH_KIND
@pytest.mark.parametrize("written", ["files", "./files", "$PLACE/files", "${PLACE}/files", "~/files"])
def test_path_begins_beside_the_sweep_and_is_stored_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, keys: Callable[[str], Keys], key: str, written: str
) -> None:
    del key
    make_files(tmp_path / "files")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setenv("PLACE", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    whole, short = (
        make_plan(load_sweep(write_sweep(tmp_path, **keys(path)))).manifest for path in (f"{tmp_path}/files", written)
    )

    assert stored(short.header) == {str(tmp_path / "files" / name)}
    assert [stub.fingerprint for stub in short.stubs] == [stub.fingerprint for stub in whole.stubs]


@OF_EACH_KIND
@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("$NO_SUCH_PLACE/files", "the variable NO_SUCH_PLACE is not set"),
        ("$EMPTY/files", "the variable EMPTY is not set"),
        ("./${NO_SUCH_PLACE}/files", "the variable NO_SUCH_PLACE is not set"),
        ("$HOME/${USER:-me}/files", "only $NAME, ${NAME} and ~ are replaced"),
        ("$(pwd)/files", "only $NAME, ${NAME} and ~ are replaced"),
        ("~no-such-user/files", "home"),
    ],
)
def test_path_that_cannot_be_told_is_named_with_its_key(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    keys: Callable[[str], Keys],
    key: str,
    written: str,
    words: str,
) -> None:
    monkeypatch.setenv("EMPTY", "")
    path = write_sweep(tmp_path, **keys(written))

    assert_refused(run_cli("plan", "--gpus", "none", path), f"Error: {path}: {key}'{written}/{name}' ", words)


@OF_EACH_KIND
def test_path_that_is_in_the_present_folder_alone_is_refused_with_the_whole_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, keys: Callable[[str], Keys], key: str
) -> None:
    (tmp_path / "sweeps").mkdir()
    make_files(tmp_path / "files")
    monkeypatch.chdir(tmp_path)
    path = write_sweep(tmp_path / "sweeps", **keys("files"))

    assert_refused(
        run_cli("plan", "--gpus", "none", path), key, "not beside the sweep", f"write {tmp_path}/files/{name}\n"
    )


def test_profile_begins_beside_the_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder, partition in ((tmp_path, "right"), (tmp_path / "elsewhere", "wrong")):
        folder.mkdir(exist_ok=True)
        (folder / "ours.yaml").write_text(f"partition: {partition}\n")
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setenv("PLACE", str(tmp_path))

    for profile in ("./ours.yaml", "$PLACE/ours.yaml"):
        assert load_sweep(write_sweep(tmp_path, slurm={"profile": profile})).slurm.partition == "right"
    path = write_sweep(tmp_path, slurm={"profile": "$NO_SUCH_PLACE/ours.yaml"})
    assert_refused(run_cli("plan", path), f"{path}: slurm.profile: ", "NO_SUCH_PLACE is not set")


@pytest.mark.parametrize("command", ["plan", "submit"])
def test_results_go_where_a_variable_says_and_nowhere_if_it_is_not_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PLACE", str(tmp_path / "scratch"))
    path = write_sweep(tmp_path, base_result_dir="$PLACE/results")
    before = tree(tmp_path)

    assert load_sweep(path).base_result_dir == tmp_path / "scratch" / "results"
    monkeypatch.delenv("PLACE")
    assert_refused(run_cli(command, "--gpus", "none", path), f"{path}: base_result_dir: ", "PLACE is not set")
    change = ("--set", "base_result_dir=${PLACE}/x")
    assert_refused(run_cli(command, "--gpus", "none", *change, path), "base_result_dir: ", "PLACE is not set")
    assert tree(tmp_path) == before


@pytest.mark.parametrize("key", ["cache_dir", "offload_folder"])
@pytest.mark.parametrize("value", ["$SCRATCH/hub", "~/hub"])
def test_folders_that_transformers_would_make_must_be_written_out(tmp_path: Path, key: str, value: str) -> None:
    path = write_sweep(tmp_path, model_names=["demo/tiny-2l"], adapter_config={"model_kwargs": {key: value}})

    assert_refused(run_cli("plan", "--gpus", "none", path), f"model_kwargs.{key}", value, "write the path out")


def test_sweep_that_a_shell_hands_over_begins_in_the_present_folder(tmp_path: Path) -> None:
    make_files(tmp_path / "files")
    sweep = write_sweep(tmp_path, **own_data("files"))

    done = subprocess.run(
        [sys.executable, "-m", "hpc_bench", "plan", "--gpus", "none", "--set", "name=piped", "/dev/stdin"],
        input=sweep.read_text(),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")
