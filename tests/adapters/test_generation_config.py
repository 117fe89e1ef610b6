"""The model's own generation_config: used where the sweep says so, and else named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from hpc_bench.adapters.base import AdapterError
from hpc_bench.adapters.generation_config import read_generation_config, settings_of, unused_fields
from hpc_bench.adapters.huggingface import HuggingFaceAdapter
from hpc_bench.attention.base import AttentionConfig
from hpc_bench.values import Generation, ModelOptions, Sample
from tests.support.builders import run_cli, write_sweep
from tests.support.places import TINY

ASKED = Sample("s", "The old farmer walked near the river. In the morning a teacher", " bought the", ("x",), 12)
FROM_MODEL = Generation(from_model=True)


def model_with(folder: Path, **fields: Any) -> Path:
    """The demo model with a generation_config of its own."""
    shutil.copytree(TINY, folder / "model")
    path = folder / "model" / "generation_config.json"
    own = {key: value for key, value in json.loads(path.read_text()).items() if key != "_from_model_config"}
    path.write_text(json.dumps({**own, **fields}))
    return folder / "model"


def load(folder: Path, *, from_model: bool = True) -> HuggingFaceAdapter:
    kwargs = {"dtype": "float32"}
    return HuggingFaceAdapter.load(ModelOptions(str(folder), device="cpu", model_kwargs=kwargs, from_model=from_model))


def answered(adapter: HuggingFaceAdapter, generation: Generation) -> str:
    return adapter.answer(adapter.prefill([ASKED]), ASKED, AttentionConfig(), generation).text


def generated(adapter: HuggingFaceAdapter) -> str:
    """As transformers' `generate` answers, with the model's generation_config."""
    prompt = torch.tensor([adapter._prompts.prompt(ASKED).ids])
    ids = adapter._model.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=12)
    return str(adapter._tokenizer.decode(ids[0, prompt.shape[1] :], skip_special_tokens=True))


@pytest.mark.parametrize(
    "fields",
    [
        {"repetition_penalty": 1.8},
        {"no_repeat_ngram_size": 1},
        {"suppress_tokens": list(range(3, 400))},
        {"begin_suppress_tokens": list(range(3, 760)), "min_new_tokens": 6},
        {"bad_words_ids": [[token] for token in range(3, 400)]},
        {"sequence_bias": [[[400], 50.0]]},
        {"forced_eos_token_id": 5, "exponential_decay_length_penalty": [3, 1.5], "remove_invalid_values": True},
        {"repetition_penalty": 1.2, "no_repeat_ngram_size": 2, "min_length": 20},
    ],
    ids=lambda fields: "-".join(fields),
)
def test_from_model_answers_as_generate_does(tmp_path: Path, fields: dict[str, Any]) -> None:
    adapter = load(model_with(tmp_path, **fields))

    assert answered(adapter, FROM_MODEL) == generated(adapter)
    assert answered(adapter, FROM_MODEL) != answered(adapter, Generation())


def test_sampling_of_the_model_is_taken_too(tmp_path: Path) -> None:
    adapter = load(model_with(tmp_path, do_sample=True, temperature=5.0, top_p=0.99))
    seeds = [Generation(from_model=True, seed=seed) for seed in range(4)]

    assert len({answered(adapter, wanted) for wanted in seeds}) > 1
    assert answered(adapter, seeds[0]) == answered(adapter, seeds[0])


def test_keys_of_the_sweep_replace_the_models() -> None:
    own = {"repetition_penalty": 1.1, "temperature": 0.6, "do_sample": True, "stop_strings": "End"}

    settings = settings_of(Generation(from_model=True, temperature=0.9, stop_strings=("\n",)), own)

    assert settings == {
        "do_sample": True,
        "repetition_penalty": 1.1,
        "temperature": 0.9,
        "top_k": 50,
        "stop_strings": ("\n", "End"),
    }
    assert settings_of(FROM_MODEL, {"top_k": 0})["top_k"] == 0
    assert settings_of(Generation(), own) == {"stop_strings": ()}


@pytest.mark.parametrize(
    ("fields", "from_model", "unused"),
    [
        ({"repetition_penalty": 1.05, "bos_token_id": 1}, False, {"repetition_penalty": 1.05}),
        ({"do_sample": True, "top_p": 0.8}, False, {"do_sample": True, "top_p": 0.8}),
        ({"do_sample": False, "top_p": 0.8, "num_beams": 1}, False, {}),
        ({"repetition_penalty": 1.05, "max_new_tokens": 2048}, True, {"max_new_tokens": 2048}),
    ],
)
def test_fields_that_are_not_used_are_named(
    tmp_path: Path, fields: dict[str, Any], from_model: bool, unused: dict[str, Any]
) -> None:
    folder = model_with(tmp_path, **fields)

    assert unused_fields(read_generation_config(str(folder), None), from_model=from_model) == unused
    assert load(folder, from_model=from_model).provenance()["unused_generation_config"] == unused


def test_plan_names_the_fields_that_are_not_used(tmp_path: Path) -> None:
    folder = model_with(tmp_path, repetition_penalty=1.05)
    sweep = {"model_names": [str(folder)], "benchmark_configs": {"mock_benchmark": None}}

    plain = run_cli("plan", write_sweep(tmp_path, **sweep)).stdout
    used = run_cli("plan", write_sweep(tmp_path, **sweep, generation_kwargs={"from_model": True})).stdout

    assert "its generation_config.json sets repetition_penalty: 1.05, which is not used" in plain
    assert "generation_config.json" not in used


def test_field_that_is_not_supported_is_refused_where_it_would_be_used(tmp_path: Path) -> None:
    folder = model_with(tmp_path, num_beams=4)

    with pytest.raises(AdapterError, match=r"sets num_beams: 4, which is not supported; leave out .*from_model"):
        load(folder)
    assert load(folder, from_model=False).provenance()["unused_generation_config"] == {"num_beams": 4}
