"""One prefill for 8 attention configs x 8 questions on one context of 4k tokens, against 8 and against 64 prefills.

A random Llama of 2 layers, 4 heads and 2 key heads of 64 channels, made on the spot. Answers of at most 4 tokens.
- shared: one prefill for all configs and questions, as an engine does.
- by stub: each config on its own, one prefill for its 8 questions.
- alone: a prefill for each config and question, as scripts without sharing do.

Target: at least 4 times faster than alone, and every answer the same, token for token.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import click
from maskers import make_chain
from paired import interleave, print_figure, print_machine, print_times, ratio, seconds
from shared_prefill import QUESTIONS, answer_alone, answer_shared, recorded_ids

from hpc_bench.adapters.base import ModelAdapter
from hpc_bench.adapters.huggingface import HuggingFaceAdapter
from hpc_bench.adapters.model_source import find_model
from hpc_bench.attention.base import AttentionConfig
from hpc_bench.attention.model_shape import ModelShape
from hpc_bench.benchmarks.suites.needle import Needle
from hpc_bench.values import Answer, ModelOptions, Sample

SHAPE = ModelShape(layers=2, heads=4, kv_heads=2, head_dim=64)
CHAINS = (
    "dense",
    "streaming",
    "oracle_top_k",
    "oracle_top_p",
    "quest",
    "double_sparsity",
    "h2o",
    "snapkv",
)
LENGTH = "4096"
TARGET = 4.0


def make_model(folder: Path) -> Path:
    """A random model of SHAPE with the demo models' tokenizer."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    demo = Path(find_model("demo/tiny-2l", None).source)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=767,
        hidden_size=SHAPE.heads * SHAPE.head_dim,
        intermediate_size=4 * SHAPE.heads * SHAPE.head_dim,
        num_hidden_layers=SHAPE.layers,
        num_attention_heads=SHAPE.heads,
        num_key_value_heads=SHAPE.kv_heads,
        head_dim=SHAPE.head_dim,
        max_position_embeddings=8192,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2,
    )
    LlamaForCausalLM(config).save_pretrained(folder / "model")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(demo / name, folder / "model" / name)
    return folder / "model"


def answer_by_stub(
    adapter: ModelAdapter, questions: Sequence[Sample], configs: Sequence[AttentionConfig]
) -> list[Answer]:
    return [answer for config in configs for answer in answer_shared(adapter, questions, [config])]


WAYS = {"shared": answer_shared, "by stub": answer_by_stub, "alone": answer_alone}


class Run:
    """All ways to answer, which must agree."""

    def __init__(self, adapter: ModelAdapter, questions: list[Sample], configs: list[AttentionConfig]) -> None:
        self.asked = (adapter, questions, configs)
        self.told: list[list[int]] = []

    def seconds(self, way: str) -> float:
        """Of one way; exits if an answer is not the first way's."""
        with recorded_ids() as told:
            took = seconds(lambda: WAYS[way](*self.asked))
        self.told = self.told or told
        if told != self.told or len(told) != len(CHAINS) * QUESTIONS:
            raise SystemExit(f"the answers of {way!r} differ: {told} {self.told}")
        print(f"  {way}: {took:.2f} s, {len(told)} answers, the same tokens", flush=True)
        return took


@click.command()
@click.option("--quick", is_flag=True, help="One round instead of 3.")
@click.option("--threads", default=1, show_default=True, help="Of torch.")
def main(quick: bool, threads: int) -> None:
    """Time the three ways."""
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    import torch

    print_machine()
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        adapter = HuggingFaceAdapter.load(ModelOptions(str(make_model(folder)), device="cpu"))
        questions = list(Needle(samples=QUESTIONS, questions_per_context=QUESTIONS).load(LENGTH, adapter.tokens))
        configs = [AttentionConfig(make_chain(chain, folder, SHAPE)) for chain in CHAINS]
        answer_shared(adapter, questions[:1], configs)  # a process's first calls are slower
        run = Run(adapter, questions, configs)
        times = interleave({way: lambda way=way: run.seconds(way) for way in WAYS}, 1 if quick else 3)
    print_times(times)
    by_stub, alone = ratio(times, "by stub", "shared"), ratio(times, "alone", "shared")
    figure = f"one prefill for 8 configs x {QUESTIONS} questions on {LENGTH} tokens, against"
    print_figure(f"{figure} one for each", f"at least {TARGET:g} x", f"{alone:.1f} x, same tokens", met=alone >= TARGET)
    print_figure(f"{figure} one a config", "none", f"{by_stub:.2f} x, same tokens", met=True)


if __name__ == "__main__":
    main()
