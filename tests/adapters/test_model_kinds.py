"""The transformers adapter on models that keep, share, stretch or choose what others do not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    BambaConfig,
    DeepseekV3Config,
    DeepseekV32Config,
    Gemma3nTextConfig,
    Gemma4TextConfig,
    JambaConfig,
    LlamaConfig,
    RecurrentGemmaConfig,
    Zamba2Config,
)

from hpc_bench.adapters.base import AdapterError
from hpc_bench.adapters.huggingface import HuggingFaceAdapter
from hpc_bench.adapters.sparse.attention_interface import NAME
from hpc_bench.attention.base import AttentionConfig
from hpc_bench.attention.maskers.h2o import H2O
from hpc_bench.attention.maskers.sink import Sink
from hpc_bench.attention.maskers.snapkv import SnapKV
from hpc_bench.attention.maskers.streaming import Streaming
from hpc_bench.attention.model_shape import positions_of_config, shape_of_config
from tests.support.random_models import ASKED, CONTEXT, SIZES, WANTED, WIDE, save

FOUR = {"num_hidden_layers": 4}
EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 16, "n_routed_experts": 4, "n_group": 1, "topk_group": 1}
LATENT = {"q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 16}
SHARED = {
    "layer_types": ["sliding_attention", "full_attention"] * 2,
    "sliding_window": 12,
    "num_kv_shared_layers": 2,
    "hidden_size_per_layer_input": 8,
    "vocab_size_per_layer_input": 767,
}
SHARING: dict[str, Any] = {
    "gemma4": Gemma4TextConfig(**{**WIDE, **FOUR}, **SHARED, global_head_dim=16),
    "gemma3n": Gemma3nTextConfig(
        **{**WIDE, **FOUR, "intermediate_size": [32] * 4},
        **SHARED,
        laurel_rank=4,
        activation_sparsity_pattern=[0.0] * 4,
    ),
}
MAMBA2 = {"mamba_n_heads": 4, "mamba_d_head": 16, "mamba_n_groups": 1, "mamba_d_state": 8, "mamba_chunk_size": 16}
RECURRENT: dict[str, Any] = {
    # starts every pass of several tokens from an empty recurrent state
    "jamba": JambaConfig(
        **{**SIZES, **FOUR},
        attn_layer_period=2,
        attn_layer_offset=1,
        expert_layer_period=2,
        expert_layer_offset=1,
        num_experts=2,
        mamba_d_state=8,
    ),
    # counts positions from 0 in every pass that is not told
    "bamba": BambaConfig(**SIZES, **MAMBA2, attn_layer_indices=[1]),
}
REFUSED: dict[str, tuple[Any, str]] = {
    "an indexer's choice": (
        DeepseekV32Config(
            **{**SIZES, "num_key_value_heads": 4},
            **LATENT,
            **EXPERTS,
            index_topk=16,
            index_n_heads=2,
            index_head_dim=16,
        ),
        "DeepseekV32Attention uses indices in its attention",
    ),
    "one attention in several layers": (
        Zamba2Config(
            **{**SIZES, **FOUR},
            layers_block_type=["mamba", "hybrid"] * 2,
            mamba_d_state=8,
            n_mamba_heads=4,
            mamba_ngroups=1,
            chunk_size=16,
            num_mem_blocks=1,
            adapter_rank=4,
            attention_head_dim=16,
        ),
        "Zamba2Attention has several attention layers with the number",
    ),
}


def load(config: Any, path: Path) -> HuggingFaceAdapter:
    return HuggingFaceAdapter.load(save(config, path))


@pytest.mark.parametrize(
    "masker", [H2O(3, 3), SnapKV(6, window=2), Streaming(2, 3)], ids=lambda one: type(one).__name__
)
@pytest.mark.parametrize("name", SHARING)
def test_layers_that_share_keys_show_maskers_every_query(name: str, masker: Any, tmp_path: Path) -> None:
    adapter, attention = load(SHARING[name], tmp_path), AttentionConfig((Sink(2), masker))

    prefill = adapter.prefill([ASKED], [attention])
    answer = adapter.answer(prefill, ASKED, attention, WANTED)

    own, shared = answer.layer_density[1], answer.layer_density[3]  # both see all of the text
    assert shared == pytest.approx(own, rel=0.1)


@pytest.mark.parametrize("name", [*SHARING, *RECURRENT])
def test_canary_lives_on_models_that_share_keys_or_recur(name: str, tmp_path: Path) -> None:
    load({**SHARING, **RECURRENT}[name], tmp_path).check_attention_path(ASKED)


@pytest.mark.parametrize("name", RECURRENT)
def test_recurrent_model_answers_from_its_prefill_as_generate_does(name: str, tmp_path: Path) -> None:
    adapter = load(RECURRENT[name], tmp_path)
    ids = adapter._prompts.prompt(ASKED).ids
    adapter._model.set_attn_implementation("sdpa")
    made = adapter._model.generate(torch.tensor([ids]), do_sample=False, min_new_tokens=6, max_new_tokens=6)
    adapter._model.set_attn_implementation(NAME)

    answer = adapter.answer(adapter.prefill([ASKED]), ASKED, AttentionConfig(), WANTED)

    assert answer.text == adapter._tokenizer.decode(made[0, len(ids) :], skip_special_tokens=True)


def test_canary_names_a_model_that_cannot_go_on_from_its_own_prefill(tmp_path: Path) -> None:
    config = RecurrentGemmaConfig(**{**SIZES, "num_hidden_layers": 3}, lru_width=32, attention_window_size=64)

    with pytest.raises(AdapterError, match="transformers' own attention, too, a question behind a cache has other"):
        load(config, tmp_path).check_attention_path(ASKED)


def test_canary_names_a_model_that_remembers_beside_its_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = load(LlamaConfig(**WIDE), tmp_path)
    monkeypatch.setattr("hpc_bench.adapters.sparse.canary.fork_cache", lambda cache: cache)

    with pytest.raises(AdapterError, match="the same cache for the second time has other logits"):
        adapter.check_attention_path(ASKED)


@pytest.mark.parametrize("masker", [H2O, SnapKV])
def test_canary_dies_of_a_masker_that_learns_the_wrong_keys(
    masker: type[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = load(LlamaConfig(**WIDE), tmp_path)
    monkeypatch.setattr(masker, "select", lambda _, inputs, kept: Streaming(1, 1).select(inputs, kept))

    with pytest.raises(AdapterError, match=f"{masker.__name__.lower()} that keeps every key gives other logits"):
        adapter.check_attention_path(ASKED)


@pytest.mark.parametrize("name", REFUSED)
def test_model_that_hides_from_maskers_is_refused_before_its_weights_are_read(name: str, tmp_path: Path) -> None:
    config, cause = REFUSED[name]
    model = save(config, tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"no weights")

    with pytest.raises(AdapterError, match=cause):
        HuggingFaceAdapter.load(model)


def test_latent_attention_has_the_head_size_of_its_whole_keys() -> None:
    shape = shape_of_config(DeepseekV3Config(**{**SIZES, "num_key_value_heads": 4}, **LATENT, **EXPERTS).to_dict())

    assert shape is not None
    assert shape.head_dim == 16


YARN = {"rope_type": "yarn", "factor": 4.0}


@pytest.mark.parametrize(
    ("config", "positions"),
    [
        ({"max_position_embeddings": 100}, 100),
        ({"max_position_embeddings": 100, "rope_parameters": {**YARN, "original_max_position_embeddings": 50}}, 200),
        ({"max_position_embeddings": 400, "rope_parameters": {**YARN, "original_max_position_embeddings": 100}}, 400),
        ({"max_position_embeddings": 100, "rope_scaling": {"type": "yarn", "factor": 4.0}}, 400),
        ({"max_position_embeddings": 100, "rope_parameters": {"rope_type": "dynamic", "factor": 2.5}}, 250),
        ({"max_position_embeddings": 100, "rope_parameters": {"full_attention": YARN, "sliding_attention": {}}}, 400),
        ({"max_position_embeddings": 100, "rope_parameters": {**YARN, "rope_type": "linear"}}, 100),
        ({"max_position_embeddings": 100, "rope_parameters": {**YARN, "rope_type": "llama3"}}, 100),
        ({"text_config": {"max_position_embeddings": 100, "rope_parameters": YARN}}, 400),
        ({}, None),
    ],
)
def test_positions_are_those_that_scaling_reaches(config: dict[str, Any], positions: int | None) -> None:
    assert positions_of_config(config) == positions


@pytest.mark.parametrize("kind", ["yarn", "dynamic"])
def test_stretched_model_reads_beyond_the_positions_of_its_training(kind: str, tmp_path: Path) -> None:
    rope = {"rope_type": kind, "factor": 4.0, "rope_theta": 10000.0}
    adapter = load(LlamaConfig(**{**WIDE, "max_position_embeddings": 64}, rope_parameters=rope), tmp_path)

    prefill = adapter.prefill([ASKED])

    assert 64 < prefill.tokens < 256
    with pytest.raises(AdapterError, match="256 positions"):
        adapter.prefill([replace(ASKED, context=CONTEXT * 3)])


def test_dynamic_scaling_forgets_the_prompts_of_other_samples(tmp_path: Path) -> None:
    rope = {"rope_type": "dynamic", "factor": 8.0, "rope_theta": 10000.0}
    adapter = load(LlamaConfig(**{**WIDE, "max_position_embeddings": 20}, rope_parameters=rope), tmp_path)

    def keys() -> torch.Tensor:
        cache = adapter.prefill([replace(ASKED, context=CONTEXT[:120])]).state.cache
        assert cache.get_seq_length() > 20
        kept: torch.Tensor = cache.layers[0].keys
        return kept

    first = keys()
    adapter.prefill([ASKED])

    assert torch.equal(keys(), first)
