"""Files that Git LFS has not fetched are named before anything runs, whatever they are to be."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.support.builders import run_cli, tree, write_sweep
from tests.support.places import TINY
from tests.support.refusals import assert_refused

POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 123456\n"
pytestmark = pytest.mark.usefixtures("no_workers")


def assert_pointer_named(folder: Path, file: Path, **keys: Any) -> None:
    path = write_sweep(folder, **keys)
    before = tree(folder)

    for command in ("plan", "submit"):
        assert_refused(
            run_cli(command, "--gpus", "none", path),
            f"{file} is a Git LFS pointer, not the file itself; run `git lfs pull` in its repository\n",
        )
    assert tree(folder) == before


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json"])
def test_pointer_in_a_model_is_named(tmp_path: Path, name: str) -> None:
    model = Path(shutil.copytree(TINY, tmp_path / "model"))
    (model / name).write_text(POINTER)

    assert_pointer_named(tmp_path, model / name, model_names=[str(model)])


def test_pointer_that_no_run_reads_is_left_alone(tmp_path: Path) -> None:
    model = Path(shutil.copytree(TINY, tmp_path / "model"))
    for name in ("picture.png", "pytorch_model.bin"):
        (model / name).write_text(POINTER)

    assert run_cli("plan", "--gpus", "none", write_sweep(tmp_path, model_names=[str(model)])).exit_code == 0


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
@pytest.mark.parametrize("in_folder", [False, True])
@pytest.mark.parametrize("kind", ["longbench", "mine"])
def test_pointer_as_data_is_named(tmp_path: Path, kind: str, suffix: str, in_folder: bool) -> None:
    file = tmp_path / "data" / f"qasper.{suffix}"
    file.parent.mkdir()
    file.write_text(POINTER)
    data = {"data": str(file.parent if in_folder else file)}
    options = {"subsets": ["qasper"]} if kind == "longbench" else {"metric": "qa_f1", "max_new_tokens": 8}

    assert_pointer_named(tmp_path, file, benchmark_configs={kind: {**data, **options}})


def test_pointer_in_a_saved_data_set_is_named(tmp_path: Path) -> None:
    file = tmp_path / "saved" / "data-00000-of-00001.arrow"
    file.parent.mkdir()
    (file.parent / "state.json").write_text("{}")
    file.write_text(POINTER)
    mine = {"data": str(file.parent), "metric": "qa_f1", "max_new_tokens": 8}

    assert_pointer_named(tmp_path, file, benchmark_configs={"mine": mine})


@pytest.mark.parametrize(
    ("option", "name", "task"), [("essays", "a.txt", "niah_single_2"), ("qa", "qa_1.json", "qa_1")]
)
def test_pointer_as_material_of_ruler_is_named(tmp_path: Path, option: str, name: str, task: str) -> None:
    file = tmp_path / "material" / name
    file.parent.mkdir()
    file.write_text(POINTER)
    ruler = {"subsets": [f"4096_{task}"], "source": "generate", option: str(file.parent)}

    assert_pointer_named(tmp_path, file, benchmark_configs={"ruler": ruler})


def test_pointer_as_the_file_of_a_masker_is_named(tmp_path: Path) -> None:
    file = tmp_path / "hash.safetensors"
    file.write_text(POINTER)
    config = [{"hash_attention": {"heavy": 8, "weights": str(file)}}]

    assert_pointer_named(tmp_path, file, sparse_attention_configs={"hash": config})
