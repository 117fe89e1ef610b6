"""The demo models' architecture, and a start from which they learn recall in minutes rather than hours."""

from __future__ import annotations

import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

MAX_POSITIONS = 4096

# Heads of the first layer start by looking this many tokens back.
_LOOK_BACK = (1, 2, 3, 4)
# The RoPE pairs that turn fastest; enough of them make a sharp positional kernel.
_POSITION_PAIRS = 5
_POSITION_GAIN = 1.2
_POSITION_INPUT = 5.0
_CONTENT_GAIN = 3.0
_FIRST_LAYER_CONTENT = 0.3
# How alike W_q and W_k, and W_o and the transpose of W_v, start.
_TIED = 0.7


def build_model(layers: int, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """A small Llama; with 2 layers it has 492,032 parameters."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=64,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6},
        max_position_embeddings=MAX_POSITIONS,
        tie_word_embeddings=True,
        initializer_range=0.06,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = LlamaForCausalLM(config)
    start_as_induction_heads(model)
    return model


@torch.no_grad()
def start_as_induction_heads(model: LlamaForCausalLM) -> None:
    """Gives the first two layers the shape of induction heads, which otherwise take long to appear.

    W_q is close to W_k, so that like attends to like, and W_o to W_v transposed, so that what is attended is
    copied (mimetic initialisation, Trockman and Kolter 2023, arXiv:2305.09828).
    """
    model.model.embed_tokens.weight[:, 0] = _POSITION_INPUT * model.config.initializer_range
    groups = model.config.num_attention_heads // model.config.num_key_value_heads
    for index, layer in enumerate(model.model.layers):
        _tie_output_to_value(layer.self_attn, groups)
        if index == 0:
            _look_back(layer.self_attn, model.model.rotary_emb.inv_freq[:_POSITION_PAIRS])
            continue
        _tie_query_to_key(layer.self_attn, groups)
        if index > 1:  # deeper layers start as the identity: a 4-layer model begins as the 2-layer one
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()


def _heads(projection: nn.Linear, head_dim: int) -> torch.Tensor:
    """A view of the weight as [heads, head_dim, hidden]."""
    return projection.weight.view(-1, head_dim, projection.in_features)


def _tie_output_to_value(attention: nn.Module, groups: int) -> None:
    value = _heads(attention.v_proj, attention.head_dim).repeat_interleave(groups, 0).flatten(0, 1)
    output = attention.o_proj.weight
    output.copy_(_TIED * value.T + (1 - _TIED) * output)


def _tie_query_to_key(attention: nn.Module, groups: int) -> None:
    key, query = _heads(attention.k_proj, attention.head_dim), _heads(attention.q_proj, attention.head_dim)
    query.copy_(_CONTENT_GAIN * (_TIED * key.repeat_interleave(groups, 0) + (1 - _TIED) * query))
    key *= _CONTENT_GAIN


def _look_back(attention: nn.Module, frequencies: torch.Tensor) -> None:
    """Head h attends `_LOOK_BACK[h]` tokens back: a RoPE phase, read from the one constant embedding coordinate."""
    key, query = _heads(attention.k_proj, attention.head_dim), _heads(attention.q_proj, attention.head_dim)
    half, pairs = attention.head_dim // 2, len(frequencies)
    key *= _FIRST_LAYER_CONTENT
    query *= _FIRST_LAYER_CONTENT
    key[:, :pairs, 0] = _POSITION_GAIN
    key[:, half : half + pairs, 0] = 0.0
    for head, offset in enumerate(_LOOK_BACK):
        query[head, :pairs, 0] = _POSITION_GAIN * torch.cos(frequencies * offset)
        query[head, half : half + pairs, 0] = -_POSITION_GAIN * torch.sin(frequencies * offset)


def draw_jumps(is_stop: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Positions [batch, length] with random gaps after some of the sentence ends marked in `is_stop`."""
    batch, length = is_stop.shape
    gaps = torch.rand(batch, length, generator=generator) * is_stop
    gaps *= torch.rand(batch, length, generator=generator) < 0.5
    room = (MAX_POSITIONS - length) * torch.rand(batch, 1, generator=generator)
    gaps = (gaps / gaps.sum(1, keepdim=True).clamp_min(1e-6) * room).floor().long()
    return torch.arange(length) + gaps.cumsum(1) - gaps
