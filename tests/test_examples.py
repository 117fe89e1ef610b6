"""Every sweep in examples/ can be planned, and the published attentions run."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from huggingface_hub import constants

from hpc_bench.adapters.huggingface import HuggingFaceAdapter
from hpc_bench.attention.model_shape import read_shape
from hpc_bench.benchmarks.suites.needle import Needle
from hpc_bench.sweep.sweep import load_sweep
from hpc_bench.values import Generation, ModelOptions
from tests.support.builders import run_cli
from tests.support.maskers import write_channels, write_hash
from tests.support.places import REPOSITORY, TINY

EXAMPLES = REPOSITORY / "examples"
STUBS = {
    "aime_reasoning": 8,
    "learned": 6,
    "longbench_leaderboard": 252,
    "plan_sweep_12": 12,
    "plan_sweep_32": 32,
    "published": 28,
    "quickstart": 40,
    "ruler_length_study": 216,
    "slurm_quickstart": 12,
}
ATTENTION = EXAMPLES / "attention"


@pytest.fixture
def beside_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], Path]:
    """Copies a sweep to where there are the files that the commands at the top of some make, but random; the cache of
    the hub is empty.
    """
    shape = read_shape(str(TINY), None)
    assert shape is not None
    for name in ("hash", "llama-hash", "phi-hash"):
        write_hash(tmp_path / f"{name}.safetensors", shape)
    write_channels(tmp_path / "channels.safetensors", shape)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return lambda sweep: Path(shutil.copy(sweep, tmp_path))


@pytest.fixture(scope="module")
def adapter() -> HuggingFaceAdapter:
    return HuggingFaceAdapter.load(ModelOptions(str(TINY), device="cpu", model_kwargs={"dtype": "float32"}))


@pytest.mark.parametrize("path", sorted(EXAMPLES.rglob("*.yaml")), ids=lambda path: path.stem)
def test_example_sweep_is_planned(
    path: Path, beside_files: Callable[[Path], Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)

    done = run_cli("plan", beside_files(path))

    assert done.exit_code == 0, done.output
    name = load_sweep(beside_files(path)).name
    assert f"{name}: {STUBS[name]} stubs" in done.output
    row = next(line for line in readme_rows() if f"/{path.name}]" in line or f"[{path.name}]" in line)
    assert f"| {STUBS[name]} |" in row


@pytest.mark.parametrize("name", ["published.yaml", "learned.yaml"])
def test_published_attentions_answer(
    adapter: HuggingFaceAdapter, name: str, beside_files: Callable[[Path], Path]
) -> None:
    attentions = load_sweep(beside_files(ATTENTION / name)).attentions
    sample = next(iter(Needle(samples=1).load("256", adapter.count_tokens)))

    shared = adapter.prefill([sample], list(attentions.values()))
    answers = {
        config: adapter.answer(shared, sample, attention, Generation(max_new_tokens=8, min_new_tokens=8))
        for config, attention in attentions.items()
    }

    assert all(answer.tokens_out == 8 and 0 < answer.density <= 1 for answer in answers.values())
    assert sample.references[0] in answers["dense"].text


def test_readme_names_every_config_and_no_other() -> None:
    swept = {name for file in ("published.yaml", "learned.yaml") for name in load_attentions(ATTENTION / file)}
    rows = [line.split("|")[1] for line in (ATTENTION / "README.md").read_text().splitlines() if line.startswith("| `")]

    listed = {name.strip(" `") for row in rows for name in row.split(",")}

    assert {"oracle_top_p" + name if name.startswith("_") else name for name in listed} == swept - {"dense"}


def readme_rows() -> list[str]:
    """The tables of examples/README.md."""
    return [line for line in (EXAMPLES / "README.md").read_text().splitlines() if line.startswith("| [")]


def load_attentions(path: Path) -> list[str]:
    """The names alone, which need no files."""
    return list(yaml.safe_load(path.read_text())["sparse_attention_configs"])
