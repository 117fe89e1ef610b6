import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

import hpc_bench
from hpc_bench.benchmarks.suites.needle import Needle
from tests.support.places import REPOSITORY

DEMO = Path(hpc_bench.__file__).parent / "demo"
RECIPE = REPOSITORY / "examples" / "demo_models" / "train.py"
MODELS = ("tiny-2l", "tiny-4l")


@pytest.mark.parametrize("name", MODELS)
def test_demo_model_finds_needles(name: str, caplog: pytest.LogCaptureFixture) -> None:
    tokenizer = AutoTokenizer.from_pretrained(DEMO / name)
    model = AutoModelForCausalLM.from_pretrained(DEMO / name, dtype=torch.float32)
    benchmark = Needle(samples=20)
    samples = list(benchmark.load("512", lambda text: len(tokenizer(text, add_special_tokens=False).input_ids)))

    predictions = []
    for sample in samples:
        prompt = tokenizer(sample.context + sample.question + sample.answer_prefix, return_tensors="pt")
        output = model.generate(**prompt, do_sample=False, max_new_tokens=sample.max_new_tokens)
        predictions.append(tokenizer.decode(output[0, prompt.input_ids.shape[1] :], skip_special_tokens=True))

    scores = benchmark.score(samples, predictions)
    assert scores.score is not None
    assert scores.score >= 95
    assert isinstance(tokenizer, PreTrainedTokenizerFast)
    assert not caplog.records


def test_demo_models_are_small_and_share_their_tokenizer() -> None:
    files = [{path.name: path.read_bytes() for path in (DEMO / name).iterdir()} for name in MODELS]

    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert files[0][name] == files[1][name]
    assert all(sum(map(len, folder.values())) < 2_000_000 for folder in files)


def test_training_recipe_makes_a_model_with_the_shipped_tokenizer(tmp_path: Path) -> None:
    command = [sys.executable, str(RECIPE), "--out", str(tmp_path), "--steps", "2", "--tokens", "256", "--threads", "1"]

    subprocess.run(command, check=True, capture_output=True)

    assert (tmp_path / "tokenizer.json").read_bytes() == (DEMO / "tiny-2l" / "tokenizer.json").read_bytes()
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert (model.num_parameters(), model.dtype) == (492_032, torch.bfloat16)
