"""The files that hash_attention and double_sparsity need, made for a demo model."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest
import torch
from click.testing import Result
from safetensors.torch import load_file, save_file

import hpc_bench
from hpc_bench.adapters.calibration.capture import Piece, capture_pieces
from hpc_bench.adapters.calibration.hash_training import HashOptions, random_planes, untrained_hash
from hpc_bench.adapters.calibration.recall import BEST, measure_recall
from hpc_bench.adapters.huggingface import HuggingFaceAdapter
from hpc_bench.attention.base import AttentionConfig, Chain, Masker
from hpc_bench.attention.maskers.double_sparsity import DoubleSparsity
from hpc_bench.attention.maskers.hash_attention import HashAttention
from hpc_bench.attention.maskers.local import Local
from hpc_bench.attention.maskers.sink import Sink
from hpc_bench.attention.model_shape import ModelShape, read_shape
from hpc_bench.benchmarks.suites.needle import Needle
from hpc_bench.values import Generation, ModelOptions
from tests.support.builders import run_cli, tree

MODEL = "demo/tiny-2l"
FOLDER = Path(hpc_bench.__file__).parent / MODEL
NEEDLES = ("--benchmark", "needle", "--subset", "512")
SMALL = ("--steps", "2", "--mlp-layers", "1", "--samples", "2", "--context-tokens", "128", "--device", "cpu")
HEAVY = 16


def run(command: str, *arguments: str | Path) -> Result:
    return run_cli("attention", command, MODEL, *arguments)


@pytest.fixture(scope="module")
def shape() -> ModelShape:
    found = read_shape(str(FOLDER), None)
    assert found
    return found


@pytest.fixture(scope="module")
def adapter() -> HuggingFaceAdapter:
    return HuggingFaceAdapter.load(ModelOptions(str(FOLDER), device="cpu"))


@pytest.fixture(scope="module")
def unseen(adapter: HuggingFaceAdapter) -> list[Piece]:
    """Texts of another seed than the commands read."""
    samples = Needle(samples=8, seed=7).load("512", adapter.count_tokens)
    return capture_pieces(adapter, list(dict.fromkeys(sample.context for sample in samples)), lambda: None)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    output = tmp_path_factory.mktemp("hash") / "trained.safetensors"
    size = ("--context-tokens", "1024", "--samples", "8", "--steps", "150", "--device", "cpu")
    return output, run("train-hash", output, *NEEDLES, *size)


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    output = tmp_path_factory.mktemp("channels") / "channels.safetensors"
    size = ("--context-tokens", "1024", "--samples", "4", "--device", "cpu")
    return output, run("calibrate-channels", output, *NEEDLES, *size)


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory, shape: ModelShape) -> dict[str, tuple[Path, int]]:
    """Kind of code -> file and its `mlp_layers`."""
    folder = tmp_path_factory.mktemp("untrained")
    files = {"networks": (folder / "networks.safetensors", 3), "planes": (folder / "planes.safetensors", 1)}
    save_file(untrained_hash(shape, HashOptions()), files["networks"][0])
    save_file(random_planes(shape, 32, seed=0), files["planes"][0])
    return files


def accuracy(adapter: HuggingFaceAdapter, masker: Masker) -> float:
    """Of needle answers, in per cent, with few other keys than the masker's."""
    benchmark = Needle(samples=32, seed=7)
    samples = list(benchmark.load("512", adapter.count_tokens))
    chain: Chain = (Sink(2), Local(16), masker)
    config = AttentionConfig(chain)
    texts = []
    for _, group in itertools.groupby(samples, key=lambda sample: sample.context):
        questions = list(group)
        prefill = adapter.prefill(questions, [config])
        texts += [adapter.answer(prefill, sample, config, Generation()).text for sample in questions]
    score = benchmark.score(samples, texts).score
    assert score is not None
    return score


@pytest.fixture(scope="module")
def trained_accuracy(trained: tuple[Path, Result], adapter: HuggingFaceAdapter) -> float:
    return accuracy(adapter, HashAttention(HEAVY, str(trained[0])))


def test_made_files_fit_the_model_and_commands_say_how_to_use_them(
    trained: tuple[Path, Result], calibrated: tuple[Path, Result], shape: ModelShape
) -> None:
    assert trained[1].exit_code == calibrated[1].exit_code == 0

    HashAttention(HEAVY, str(trained[0])).check_model(shape)
    DoubleSparsity(HEAVY, str(calibrated[0])).check_model(shape)

    assert f'{{hash_attention: {{heavy: 0.05, weights: "{trained[0]}"}}}}' in trained[1].stdout
    assert f'{{double_sparsity: {{heavy: 0.05, channels: "{calibrated[0]}"}}}}' in calibrated[1].stdout
    ours, random = map(float, re.findall(r"\b0\.\d{3}\b", trained[1].stdout))
    assert ours > random
    few, many = map(float, re.findall(r"\b0\.\d{3}\b", calibrated[1].stdout))
    assert many > few
    assert [path.name for path in trained[0].parent.iterdir()] == [trained[0].name]


@pytest.mark.parametrize("kind", ["networks", "planes"])
def test_trained_hash_finds_more_of_the_best_keys_than_an_untrained_one(
    trained: tuple[Path, Result], untrained: dict[str, tuple[Path, int]], unseen: list[Piece], kind: str
) -> None:
    file, layers = untrained[kind]

    random = measure_recall(HashAttention(BEST, str(file), mlp_layers=layers), unseen, "cpu")
    ours = measure_recall(HashAttention(BEST, str(trained[0])), unseen, "cpu")

    assert ours > random + 0.05


@pytest.mark.parametrize("kind", ["networks", "planes"])
def test_trained_hash_answers_more_needles_than_an_untrained_one_at_the_same_budget(
    trained_accuracy: float, untrained: dict[str, tuple[Path, int]], adapter: HuggingFaceAdapter, kind: str
) -> None:
    file, layers = untrained[kind]

    random = accuracy(adapter, HashAttention(HEAVY, str(file), mlp_layers=layers))

    assert trained_accuracy > random


@pytest.mark.parametrize("group_factor", [4, 16])
def test_calibrated_channels_find_more_of_the_best_keys_than_the_least_important_ones(
    calibrated: tuple[Path, Result], unseen: list[Piece], tmp_path: Path, group_factor: int
) -> None:
    turned = tmp_path / "turned.safetensors"
    save_file({name: part.flip(-1).contiguous() for name, part in load_file(calibrated[0]).items()}, turned)

    worst = measure_recall(DoubleSparsity(BEST, str(turned), group_factor), unseen, "cpu")
    best = measure_recall(DoubleSparsity(BEST, str(calibrated[0]), group_factor), unseen, "cpu")

    assert best > worst + 0.05


def test_channels_are_an_order_of_all_channels(calibrated: tuple[Path, Result]) -> None:
    for order in load_file(calibrated[0]).values():
        assert order.dtype == torch.int64
        assert torch.equal(order.sort(-1).values, torch.arange(order.shape[-1]).expand_as(order))


def test_masker_keeps_the_best_keys_when_it_is_the_best(unseen: list[Piece], calibrated: tuple[Path, Result]) -> None:
    whole = DoubleSparsity(BEST, str(calibrated[0]), group_factor=1, label_bits=16)

    assert measure_recall(whole, unseen, "cpu") > 0.99


def test_same_seed_gives_the_same_file_and_another_seed_another(tmp_path: Path) -> None:
    files = [tmp_path / f"{number}.safetensors" for number in range(3)]

    for file, seed in zip(files, (1, 1, 2), strict=True):
        assert run("train-hash", file, *NEEDLES, *SMALL, "--seed", str(seed)).exit_code == 0

    assert files[0].read_bytes() == files[1].read_bytes() != files[2].read_bytes()


def test_a_text_file_will_do_and_other_sizes_are_named(tmp_path: Path, shape: ModelShape) -> None:
    text, output = tmp_path / "text.txt", tmp_path / "hash.safetensors"
    text.write_text("The old farmer walked near the river.\n" * 200, encoding="utf-8")

    done = run("train-hash", output, "--text", text, *SMALL, "--bits", "16", "--activation", "relu")

    assert done.exit_code == 0
    assert "bits: 16, mlp_layers: 1, activation: relu" in done.stdout
    HashAttention(HEAVY, str(output), bits=16, mlp_layers=1, activation="relu").check_model(shape)
    assert run("calibrate-channels", tmp_path / "c.safetensors", "--text", text, *SMALL[4:]).exit_code == 0


BAD: dict[str, tuple[tuple[str, ...], str]] = {
    "neither source": ((), "either --text or --benchmark"),
    "both sources": (("--text", "good.txt", *NEEDLES), "either --text or --benchmark"),
    "subset of a text": (("--text", "good.txt", "--subset", "512"), "--subset goes with --benchmark"),
    "no such text": (("--text", "none.txt"), "none.txt: cannot be read: No such file"),
    "empty text": (("--text", "empty.txt"), "empty.txt: is empty"),
    "no text": (("--text", "latin.txt"), "latin.txt: is not a UTF-8 text"),
    "short text": (("--text", "good.txt"), "fewer than two pieces of 1024 tokens"),
    "unknown benchmark": (("--benchmark", "nedle", "--subset", "512"), "did you mean 'needle'"),
    "unknown subset": (("--benchmark", "needle", "--subset", "x"), "needle: 'x' is no length"),
    "no subset": (("--benchmark", "needle"), "needle: needs a --subset"),
    "bits": ((*NEEDLES, "--bits", "0"), "--bits must be at least 1"),
    "steps": ((*NEEDLES, "--steps", "0"), "--steps must be at least 1"),
    "hidden": ((*NEEDLES, "--mlp-hidden", "-1"), "--mlp-hidden must be at least 1"),
    "samples": ((*NEEDLES, "--samples", "1"), "--samples must be at least 2"),
    "short contexts": ((*NEEDLES, "--context-tokens", "1"), "--context-tokens must be at least 64"),
    "too long": (
        ("--benchmark", "needle", "--subset", "4096", "--context-tokens", "8192", "--samples", "2"),
        "only 4096 positions",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_writes_nothing(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("good.txt").write_text("A short text.\n", encoding="utf-8")
    Path("empty.txt").write_text(" \n", encoding="utf-8")
    Path("latin.txt").write_bytes("häuser".encode("latin-1"))
    before = tree(tmp_path)

    done = run("train-hash", "out.safetensors", *BAD[case][0], "--device", "cpu")

    assert done.exit_code == 2
    assert BAD[case][1] in done.stderr
    assert done.stderr.splitlines()[-1].startswith("Error: ")
    assert tree(tmp_path) == before


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ("there.safetensors", "exists already"),
        ("out.pt", "must end in .safetensors"),
        ("no/out.safetensors", "no folder"),
    ],
)
def test_bad_output_is_refused_before_any_work(
    output: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("there.safetensors").write_text("precious", encoding="utf-8")

    done = run("calibrate-channels", output, *NEEDLES)

    assert (done.exit_code, len(done.stderr.splitlines())) == (2, 1)
    assert said in done.stderr
    assert tree(tmp_path) == {"there.safetensors": b"precious"}


@pytest.mark.parametrize(("model", "said"), [("demo/none", "unknown demo model"), ("./nowhere", "not a model folder")])
def test_unknown_model_is_one_line(model: str, said: str, tmp_path: Path) -> None:
    done = run_cli("attention", "train-hash", model, tmp_path / "o.safetensors", *NEEDLES)

    assert (done.exit_code, len(done.stderr.splitlines())) == (2, 1)
    assert said in done.stderr
