"""Tiny random models of any architecture of transformers, and a prompt for them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

import hpc_bench
from hpc_bench.values import Generation, ModelOptions, Sample

__all__ = ["ASKED", "CONTEXT", "QUESTION", "SIZES", "WANTED", "WIDE", "save"]

DEMO = Path(hpc_bench.__file__).parent / "demo"
SIZES: dict[str, Any] = {
    "vocab_size": 767,
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 2,
    "initializer_range": 0.3,
    "max_position_embeddings": 1024,
}
WIDE = {**SIZES, "head_dim": 16}
CONTEXT = " ".join(
    f"The old farmer walked near the river. The special magic number for {key} is {value}."
    for key, value in {"apple": 4829, "tiger": 1375, "violin": 9064, "copper": 2718, "walrus": 5530}.items()
)
QUESTION = "\nWhat is the special magic number for apple? The special magic number for apple is"
ASKED = Sample("apple", CONTEXT, QUESTION, ("4829",), max_new_tokens=6)
WANTED = Generation(min_new_tokens=6)


def save(config: Any, path: Path) -> ModelOptions:
    """A random model, float32 so that differences are rounding, with the tokenizer of the demo models."""
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(path)
    for file in (DEMO / "tiny-2l").glob("tokenizer*"):
        shutil.copy(file, path)
    return ModelOptions(source=str(path), device="cpu")
