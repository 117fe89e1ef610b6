"""What planning makes of attention configs: files that must fit the model, fingerprints, and an old manifest."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from hpc_bench.adapters.base import AdapterError
from hpc_bench.adapters.huggingface import HuggingFaceAdapter
from hpc_bench.attention.base import AttentionConfig
from hpc_bench.attention.maskers.double_sparsity import DoubleSparsity
from hpc_bench.attention.maskers.hash_attention import hash_shapes
from hpc_bench.attention.maskers.pq_cache import PQCache
from hpc_bench.attention.model_shape import ModelShape
from hpc_bench.errors import ExecutionError
from hpc_bench.execution.folder import ExecutionDir
from hpc_bench.execution.manifest import read_manifest
from hpc_bench.sweep.plan import make_plan
from hpc_bench.sweep.sweep import parse_sweep
from hpc_bench.values import ModelOptions, Sample
from tests.support.builders import prepare, publish_all, run_cli, sweep_data, tree, write_sweep
from tests.support.places import TINY

DEMO = {"tiny-2l": ModelShape(2, 4, 2, 64), "tiny-4l": ModelShape(4, 4, 2, 64)}


def channels(shape: ModelShape) -> dict[str, torch.Tensor]:
    order = torch.arange(shape.head_dim).expand(shape.kv_heads, -1).contiguous()
    return {f"layers.{layer}.channels": order.clone() for layer in range(shape.layers)}


def hash_weights(shape: ModelShape, **sizes: int) -> dict[str, torch.Tensor]:
    shapes = hash_shapes(shape, **{"bits": 8, "mlp_layers": 2, "mlp_hidden": 16, **sizes})
    return {f"layers.{i}.{name}": torch.zeros(size) for i in range(shape.layers) for name, size in shapes.items()}


def double_sparsity(path: Path, **options: Any) -> dict[str, Any]:
    masker = {"double_sparsity": {"heavy": 64, "channels": str(path), **options}}
    return {"model_names": ["demo/tiny-2l"], "sparse_attention_configs": {"ds": [masker]}}


def hash_attention(path: Path) -> dict[str, Any]:
    options = {"heavy": 64, "weights": str(path), "bits": 8, "mlp_layers": 2, "mlp_hidden": 16}
    return {"model_names": ["demo/tiny-2l"], "sparse_attention_configs": {"hash": [{"hash_attention": options}]}}


def fingerprints(base: Path, **changes: Any) -> set[str]:
    return {stub.fingerprint for stub in make_plan(parse_sweep(sweep_data(base, **changes))).manifest.stubs}


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_files_that_fit_are_planned(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"file{suffix}"
    for tensors, keys in (
        (channels(DEMO["tiny-2l"]), double_sparsity),
        (hash_weights(DEMO["tiny-2l"]), hash_attention),
    ):
        folder = tmp_path / keys.__name__
        folder.mkdir()
        path = folder / f"file{suffix}"
        save_file(tensors, path) if suffix == ".safetensors" else torch.save(tensors, path)

        result = run_cli("plan", write_sweep(folder, **keys(path)))

        assert result.exit_code == 0, result.output


def test_file_of_another_model_is_refused_with_the_expected_shapes(tmp_path: Path) -> None:
    path = tmp_path / "channels.safetensors"
    save_file(channels(DEMO["tiny-2l"]), path)
    keys = {**double_sparsity(path), "model_names": ["demo/tiny-2l", "demo/tiny-4l"]}

    result = run_cli("plan", write_sweep(tmp_path, **keys))

    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    for words in (
        "sparse_attention_configs.ds.double_sparsity: cannot be used with demo/tiny-4l: channels: ",
        "layers.2.channels [2, 64] (found: nothing), layers.3.channels [2, 64] (found: nothing)",
    ):
        assert words in result.stderr


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        (channels(ModelShape(2, 4, 4, 64)), "layers.0.channels [2, 64] (found: [4, 64])"),
        (channels(ModelShape(3, 4, 2, 64)), "also holds layers.2.channels, where 2 tensors are expected"),
        ({}, "layers.0.channels [2, 64] (found: nothing)"),
    ],
    ids=["heads", "layers", "nothing"],
)
def test_wrong_channel_file_is_refused(tmp_path: Path, tensors: dict[str, torch.Tensor], words: str) -> None:
    path = tmp_path / "channels.safetensors"
    save_file(tensors, path)
    sweep = write_sweep(tmp_path, **double_sparsity(path))
    before = tree(tmp_path)

    for command in ("plan", "submit"):
        result = run_cli(command, "--gpus", "none", sweep)

        assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
        assert words in result.stderr
    assert tree(tmp_path) == before


def test_hash_weights_of_another_size_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "hash.safetensors"
    save_file(hash_weights(DEMO["tiny-2l"], mlp_hidden=32), path)

    result = run_cli("plan", write_sweep(tmp_path, **hash_attention(path)))

    assert result.exit_code == 2
    assert "layers.0.query.0.weight [4, 64, 16] (found: [4, 64, 32])" in result.stderr


def test_pickled_objects_are_not_loaded(tmp_path: Path) -> None:
    class Opens:
        def __reduce__(self) -> tuple[Any, ...]:
            return (open, (str(tmp_path / "touched"), "w"))

    path = tmp_path / "weights.pt"
    path.write_bytes(pickle.dumps({"layers.0.query.0.weight": Opens()}))

    result = run_cli("plan", write_sweep(tmp_path, **hash_attention(path)))

    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "cannot be read" in result.stderr
    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize("content", [b"", b"no tensors at all", b"\xff" * 64])
def test_torn_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "channels.safetensors"
    path.write_bytes(content)

    result = run_cli("plan", write_sweep(tmp_path, **double_sparsity(path)))

    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "cannot be read as safetensors" in result.stderr


@pytest.mark.parametrize(
    ("masker", "words"),
    [
        ({"pq_cache": {"heavy": 64, "sub_dim": 24}}, "sub_dim must divide the model's head size, 64"),
        ({"pq_cache": {"heavy": 64, "sub_dim": 128}}, "sub_dim must divide the model's head size, 64"),
    ],
)
def test_masker_that_does_not_fit_the_heads_is_refused(tmp_path: Path, masker: dict[str, Any], words: str) -> None:
    keys: dict[str, Any] = {"model_names": ["demo/tiny-2l"], "sparse_attention_configs": {"x": [masker]}}

    result = run_cli("plan", write_sweep(tmp_path, **keys))

    assert result.exit_code == 2
    assert f"sparse_attention_configs.x.pq_cache: cannot be used with demo/tiny-2l: {words}" in result.stderr


def test_engine_checks_what_planning_could_not() -> None:
    source = str(TINY)
    adapter = HuggingFaceAdapter.load(ModelOptions(source, device="cpu"))

    adapter.check_attention(AttentionConfig((PQCache(8, sub_dim=32),)))
    with pytest.raises(AdapterError, match="PQCache does not fit this model: sub_dim must divide"):
        adapter.check_attention(AttentionConfig((PQCache(8, sub_dim=24),)))


def test_model_of_unknown_shape_is_left_to_the_engine(tmp_path: Path) -> None:
    path = tmp_path / "channels.safetensors"
    save_file(channels(DEMO["tiny-2l"]), path)
    keys = {**double_sparsity(path), "model_names": ["org/nobody-has-it"]}

    assert run_cli("plan", write_sweep(tmp_path, **keys)).exit_code == 0


def test_a_files_content_makes_the_fingerprint_not_its_path(tmp_path: Path) -> None:
    first, moved, other = (tmp_path / f"{name}.safetensors" for name in ("first", "moved", "other"))
    save_file(channels(DEMO["tiny-2l"]), first)
    shutil.copy(first, moved)
    save_file({name: tensor.flip(-1).contiguous() for name, tensor in channels(DEMO["tiny-2l"]).items()}, other)

    base = fingerprints(tmp_path, **double_sparsity(first))

    assert fingerprints(tmp_path, **double_sparsity(moved)) == base
    assert not fingerprints(tmp_path, **double_sparsity(other)) & base
    assert not fingerprints(tmp_path, **double_sparsity(first, label_bits=5)) & base


def test_sparse_prefill_makes_another_stub_and_measuring_does_not(tmp_path: Path) -> None:
    chain = [{"sink": 4}, {"local": 64}]
    base, mapping, sparse, measured = (
        fingerprints(tmp_path, sparse_attention_configs={"x": config})
        for config in (
            chain,
            {"maskers": chain},
            {"maskers": chain, "sparse_prefill": True},
            {"maskers": chain, "measure_error": 0.01},
        )
    )

    assert base == mapping == measured
    assert not base & sparse


def test_manifest_from_before_attention_configs_had_options_is_read(tmp_path: Path) -> None:
    execution = prepare(tmp_path)
    publish_all(execution)
    head, *lines = execution.manifest.read_text().splitlines()
    header = json.loads(head)
    header["attentions"] = {name: entry["maskers"] for name, entry in header["attentions"].items()}
    execution.manifest.write_text("\n".join([json.dumps(header), *lines]) + "\n")

    plan = make_plan(parse_sweep(sweep_data(tmp_path)))

    assert isinstance(plan.execution, ExecutionDir)
    assert (plan.to_run, plan.stale) == ([], ())
    assert read_manifest(execution).header.attention("streaming").chain == plan.sweep.attentions["streaming"].chain


def test_plan_says_each_config_in_words(tmp_path: Path) -> None:
    configs = {
        "one": [{"oracle_top_k": 1}],
        "all": [{"oracle_top_k": 1.0}],
        "quest": None,
        "both": {"maskers": [{"streaming": {"local": 64}}], "sparse_prefill": True, "measure_error": 0.01},
    }

    shown = run_cli("plan", write_sweep(tmp_path, sparse_attention_configs=configs)).stdout.splitlines()

    assert "one: oracle_top_k(heavy 1 token)" in shown
    assert "all: oracle_top_k(heavy 1 of the keys)" in shown
    assert "quest: dense" in shown
    words = "both: streaming(sink 4 tokens, local 64 tokens) (in the prefill too) (error measured in 1% of the passes)"
    assert words in shown


def test_complete_results_without_the_measure_are_said(tmp_path: Path) -> None:
    chain = [{"sink": 4}]
    sweep = write_sweep(tmp_path, sparse_attention_configs={"x": chain, "dense": None})
    publish_all(prepare(tmp_path / "results", sparse_attention_configs={"x": chain, "dense": None}))
    assert "measure_error" not in run_cli("plan", sweep).stdout

    measured = {"x": {"maskers": chain, "measure_error": 0.5}, "dense": None}
    shown = run_cli("plan", write_sweep(tmp_path, sparse_attention_configs=measured)).stdout

    assert "x: 6 complete stubs were run with another measure_error" in shown
    assert "dense: 6" not in shown


def test_file_that_changed_since_the_plan_is_refused_by_the_engine(tmp_path: Path) -> None:
    path = tmp_path / "channels.safetensors"
    save_file(channels(DEMO["tiny-2l"]), path)
    header = read_manifest(prepare(tmp_path / "results", **double_sparsity(path))).header
    header.refuse_changed_files("ds")

    save_file({name: tensor.flip(-1).contiguous() for name, tensor in channels(DEMO["tiny-2l"]).items()}, path)

    with pytest.raises(ExecutionError, match="double_sparsity has changed since the sweep was planned"):
        header.refuse_changed_files("ds")


def test_channels_that_are_no_order_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "channels.safetensors"
    save_file({name: tensor + 60 for name, tensor in channels(DEMO["tiny-2l"]).items()}, path)
    source = str(TINY)
    adapter = HuggingFaceAdapter.load(ModelOptions(source, device="cpu"))
    config = AttentionConfig((DoubleSparsity(8, str(path)),))

    with pytest.raises(ValueError, match="does not hold an order of all channels for layer 0"):
        adapter.prefill([Sample("s", "Some text.", "", (), 8, chat=False)], [config])


def test_relative_file_is_found_from_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_file(channels(DEMO["tiny-2l"]), tmp_path / "channels.safetensors")
    monkeypatch.chdir(tmp_path)
    execution = prepare(tmp_path / "results", **double_sparsity(Path("channels.safetensors")))

    monkeypatch.chdir("/")

    assert read_manifest(execution).header.attention("ds").chain[0].files == {
        "channels": str(tmp_path / "channels.safetensors")
    }
