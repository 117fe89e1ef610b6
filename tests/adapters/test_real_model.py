"""A real small language model is fed, and answers, as transformers itself would have it."""

from __future__ import annotations

import dataclasses
import os

import pytest
import torch

from hpc_bench.adapters.huggingface import HuggingFaceAdapter
from hpc_bench.attention.base import AttentionConfig
from hpc_bench.benchmarks.base import Benchmark
from hpc_bench.benchmarks.suites.mock_benchmark import MockBenchmark
from hpc_bench.benchmarks.suites.needle import Needle
from hpc_bench.values import Generation, ModelOptions, PromptForm

FOLDER = os.environ.get("HPC_BENCH_REAL_MODEL", "")
pytestmark = [pytest.mark.real_model, pytest.mark.skipif(not FOLDER, reason="HPC_BENCH_REAL_MODEL names no folder")]


@pytest.fixture(scope="module")
def adapter() -> HuggingFaceAdapter:
    return HuggingFaceAdapter.load(ModelOptions(FOLDER, device="cpu", model_kwargs={"dtype": "float32"}))


@pytest.mark.parametrize(("benchmark", "subset"), [(MockBenchmark(), None), (Needle(samples=4), "256")])
def test_prompts_and_greedy_answers_are_those_of_transformers(
    adapter: HuggingFaceAdapter, benchmark: Benchmark, subset: str | None
) -> None:
    tokenizer, form = adapter._tokenizer, PromptForm("user")
    for sample in (dataclasses.replace(each, form=form) for each in benchmark.load(subset, adapter.tokens)):
        turn = [{"role": "user", "content": sample.context + sample.question + sample.answer_prefix}]
        prompt = tokenizer.apply_chat_template(turn, add_generation_prompt=True, return_dict=False, return_tensors="pt")
        generated = adapter._model.generate(
            prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=16, do_sample=False
        )

        answer = adapter.answer(
            adapter.prefill([sample]), sample, AttentionConfig(), Generation(max_new_tokens=16, override_limits=True)
        )

        assert adapter._prompts.prompt(sample).ids == prompt[0].tolist()
        assert answer.text == tokenizer.decode(generated[0, prompt.shape[1] :], skip_special_tokens=True)
