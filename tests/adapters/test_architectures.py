"""The transformers adapter on tiny random models of many architectures: windows, capped scores, experts."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AttentionMaskInterface,
    BloomConfig,
    DynamicCache,
    FalconConfig,
    Gemma2Config,
    Gemma3TextConfig,
    GptOssConfig,
    LlamaConfig,
    MambaConfig,
    MistralConfig,
    MixtralConfig,
    NemotronConfig,
    Phi3Config,
    PhiConfig,
    Qwen3Config,
    Qwen3MoeConfig,
    StableLmConfig,
)

from hpc_bench.adapters.base import AdapterError
from hpc_bench.adapters.huggingface import HuggingFaceAdapter
from hpc_bench.adapters.loading import _remote_code
from hpc_bench.adapters.sparse.attention_interface import NAME
from hpc_bench.adapters.sparse.canary import check_attention_path
from hpc_bench.adapters.sparse.state import SparseState
from hpc_bench.attention.base import AttentionConfig
from hpc_bench.attention.maskers.local import Local
from hpc_bench.attention.maskers.oracle_top_k import OracleTopK
from hpc_bench.attention.maskers.random_sampling import RandomSampling
from hpc_bench.attention.maskers.sink import Sink
from hpc_bench.attention.model_shape import shape_of_config
from hpc_bench.values import Answer, ModelOptions
from tests.support.maskers import small_configs
from tests.support.random_models import ASKED, CONTEXT, QUESTION, SIZES, WANTED, WIDE, save

WINDOW = 12
"""Shorter than the context, the question, and what is fed at a time."""
EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 32}
ALTERNATING = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": WINDOW}
CAPPED = {"query_pre_attn_scalar": 16, "attn_logit_softcapping": 2.0}
CONFIGS: dict[str, Any] = {
    "llama": LlamaConfig(**WIDE),
    "qwen3": Qwen3Config(**WIDE),
    "mistral with a window": MistralConfig(**WIDE, sliding_window=WINDOW),
    "gemma3 with windows": Gemma3TextConfig(**WIDE, **ALTERNATING, query_pre_attn_scalar=16),
    "gemma3 with a cap": Gemma3TextConfig(**WIDE, **ALTERNATING, **CAPPED),
    "gemma2 with windows and a cap": Gemma2Config(**WIDE, **ALTERNATING, **CAPPED),
    "phi": PhiConfig(**SIZES),
    "phi3 with a window": Phi3Config(**SIZES, sliding_window=WINDOW),
    "mixtral": MixtralConfig(**WIDE, num_local_experts=4),
    "qwen3 moe": Qwen3MoeConfig(**WIDE, **EXPERTS, num_experts=4),
}
WINDOWED = [name for name in CONFIGS if "window" in name]


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> dict[str, HuggingFaceAdapter]:
    return {
        name: HuggingFaceAdapter.load(save(config, tmp_path_factory.mktemp("model")))
        for name, config in CONFIGS.items()
    }


@pytest.fixture(params=CONFIGS)
def other(request: pytest.FixtureRequest, adapters: dict[str, HuggingFaceAdapter]) -> HuggingFaceAdapter:
    return adapters[request.param]


def configs_of(adapter: HuggingFaceAdapter, folder: Path) -> dict[str, AttentionConfig]:
    shape = shape_of_config(adapter._model.config.to_dict())
    assert shape is not None
    return {
        "dense": AttentionConfig(),
        "everything": AttentionConfig((Sink(3), OracleTopK(1.0))),
        "sink_local": AttentionConfig((Sink(2), Local(3))),
        **small_configs(folder, shape),
    }


def facts(answer: Answer) -> dict[str, Any]:
    """All of an answer but its timings."""
    return {key: value for key, value in dataclasses.asdict(answer).items() if key not in ("seconds", "prefill_s")}


def logits(model: Any, ids: torch.Tensor, state: SparseState | None = None) -> torch.Tensor:
    """Of all tokens, fed in pieces that are longer than the window."""
    cache = DynamicCache(config=model.config)
    parts = []
    for part in ids.split(20, 1):
        if state is not None:
            state.begin_pass(part.shape[1])
        extra = {} if state is None else {"sparse_state": state}
        with torch.inference_mode():
            parts.append(model(input_ids=part, past_key_values=cache, **extra).logits)
    return torch.cat(parts, 1)


def prompt(tokens: int = 60) -> torch.Tensor:
    return torch.randint(3, 700, (1, tokens), generator=torch.Generator().manual_seed(0))


def digests(value: Any) -> Iterator[str]:
    """sha256 of every tensor in a cache, a memo, or whatever holds some."""
    if isinstance(value, torch.Tensor):
        yield hashlib.sha256(value.contiguous().numpy().tobytes()).hexdigest()
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from digests(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from digests(item)
    elif dataclasses.is_dataclass(value):
        yield from digests([getattr(value, field.name) for field in dataclasses.fields(value)])


def test_dense_and_full_budget_give_the_logits_of_the_models_own_attention(other: HuggingFaceAdapter) -> None:
    model, ids = other._model, prompt()
    dense = logits(model, ids)
    sparse = logits(model, ids, SparseState((Sink(1), OracleTopK(10**6))))

    model.set_attn_implementation("eager")
    own = logits(model, ids)
    model.set_attn_implementation(NAME)

    torch.testing.assert_close(dense, own, atol=2e-5, rtol=2e-5)
    torch.testing.assert_close(sparse, own, atol=2e-5, rtol=2e-5)


def test_cap_of_gemma2_is_heeded(adapters: dict[str, HuggingFaceAdapter]) -> None:
    model, ids = adapters["gemma2 with windows and a cap"]._model, prompt()
    capped = logits(model, ids)

    for layer in model.model.layers:
        layer.self_attn.attn_logit_softcapping = None
    bare = logits(model, ids)
    for layer in model.model.layers:
        layer.self_attn.attn_logit_softcapping = CAPPED["attn_logit_softcapping"]

    assert float((capped - bare).norm() / bare.norm()) > 0.01


def test_shared_prefill_answers_as_separate_prefills_do(other: HuggingFaceAdapter, tmp_path: Path) -> None:
    configs = configs_of(other, tmp_path)

    fresh = {}
    for name, config in configs.items():
        alone = other.prefill([ASKED], [config])
        fresh[name] = facts(other.answer(alone, ASKED, config, WANTED))
    shared = other.prefill([ASKED], list(configs.values()))
    again = {name: facts(other.answer(shared, ASKED, configs[name], WANTED)) for name in reversed(configs)}

    assert shared.tokens > 5 * WINDOW
    assert again == fresh
    assert {**fresh["everything"], "layer_density": ()} == fresh["dense"]
    sparse = [facts["density"] for name, facts in fresh.items() if name not in ("dense", "everything")]
    assert all(0 < density < 1 for density in sparse)


def test_answering_changes_no_bit_of_the_prefill(other: HuggingFaceAdapter, tmp_path: Path) -> None:
    configs = configs_of(other, tmp_path)
    shared = other.prefill([ASKED], list(configs.values()))
    layers = [(layer.keys, layer.values) for layer in shared.state.cache.layers]
    before = list(digests([layers, shared.state.memos]))

    for config in configs.values():
        other.answer(shared, ASKED, config, WANTED)

    layers = [(layer.keys, layer.values) for layer in shared.state.cache.layers]
    assert list(digests([layers, shared.state.memos])) == before
    assert len(before) > 2 * len(layers)


def test_canary_lives(other: HuggingFaceAdapter) -> None:
    other.check_attention_path(ASKED)


def everything_seen(batch_size: int, q_length: int, kv_length: int, **kwargs: Any) -> torch.Tensor:
    """A mask function that hides nothing."""
    return torch.ones(batch_size, 1, q_length, kv_length, dtype=torch.bool)


def test_canary_dies_of_a_mask_that_hides_nothing(other: HuggingFaceAdapter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(AttentionMaskInterface._global_mapping, NAME, everything_seen)

    with pytest.raises(AdapterError, match="other logits than the model's own"):
        other.check_attention_path(ASKED)


@pytest.mark.parametrize("name", WINDOWED)
def test_canary_dies_of_a_mask_that_forgets_the_window(
    adapters: dict[str, HuggingFaceAdapter], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(AttentionMaskInterface._global_mapping, NAME, lambda *_, **__: None)

    with pytest.raises(AdapterError, match="other logits than the model's own"):
        check_attention_path(adapters[name]._passes, prompt(80)[0].tolist(), prompt(30)[0].tolist())


def test_canary_asks_beyond_a_long_window(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = save(MistralConfig(**{**WIDE, "max_position_embeddings": 4096}, sliding_window=700), tmp_path)
    passes = HuggingFaceAdapter.load(options)._passes
    context, question = prompt(1500)[0].tolist(), prompt(30)[0].tolist()
    check_attention_path(passes, context, question)

    monkeypatch.setitem(AttentionMaskInterface._global_mapping, NAME, lambda *_, **__: None)

    with pytest.raises(AdapterError, match="other logits than the model's own"):
        check_attention_path(passes, context, question)


def test_shown_mask_hides_what_the_window_hides(adapters: dict[str, HuggingFaceAdapter]) -> None:
    adapter = adapters["mistral with a window"]

    (picture, *_) = adapter.selections(CONTEXT, QUESTION, AttentionConfig((Local(1.0),))).values()

    seen = ~picture[0].isnan()
    assert bool((picture[0][seen] == 1).all())
    assert set(seen.sum(-1).tolist()) == {WINDOW}


def test_capped_model_stays_finite_where_sampling_leaves_nothing(adapters: dict[str, HuggingFaceAdapter]) -> None:
    adapter = adapters["gemma2 with windows and a cap"]
    state = SparseState((RandomSampling(0.01),))

    assert bool(logits(adapter._model, prompt(), state).isfinite().all())


UNSUPPORTED = {
    "BloomForCausalLM": BloomConfig(vocab_size=767, hidden_size=32, n_layer=1, n_head=2),  # an attention of its own
    "FalconForCausalLM": FalconConfig(  # a table of its own
        vocab_size=767, hidden_size=32, num_hidden_layers=1, num_attention_heads=2
    ),
    "GptOssForCausalLM": GptOssConfig(**WIDE, **ALTERNATING, num_local_experts=4),  # attention sinks
    "MambaForCausalLM": MambaConfig(vocab_size=767, hidden_size=32, num_hidden_layers=1),  # no attention
    "NemotronForCausalLM": NemotronConfig(**SIZES),  # keyword arguments end before its attention
    "StableLmForCausalLM": StableLmConfig(**SIZES),  # the same
}


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_unsupported_architecture_is_refused_before_its_weights_are_read(name: str, tmp_path: Path) -> None:
    model = save(UNSUPPORTED[name], tmp_path / name)
    (tmp_path / name / "model.safetensors").write_bytes(b"no weights")

    with pytest.raises(AdapterError, match=f"{name}.*cannot be made sparse"):
        HuggingFaceAdapter.load(model)


def test_unsupported_model_is_refused_after_loading_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hpc_bench.adapters.loading._check_architecture", lambda *_: None)

    with pytest.raises(AdapterError, match=r"MambaForCausalLM.*cannot be made sparse"):
        HuggingFaceAdapter.load(save(UNSUPPORTED["MambaForCausalLM"], tmp_path / "mamba"))


OWN_CODE = """
from transformers import LlamaConfig, LlamaForCausalLM

class OwnConfig(LlamaConfig):
    model_type = "own"

class OwnForCausalLM(LlamaForCausalLM):
    config_class = OwnConfig
    _supports_sdpa = {supported}
"""


def save_with_own_code(path: Path, *, supported: bool) -> ModelOptions:
    """A Llama whose classes lie in its own folder."""
    model = save(CONFIGS["llama"], path)
    (path / "own.py").write_text(OWN_CODE.format(supported=supported))
    config = json.loads((path / "config.json").read_text())
    code = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnForCausalLM"}
    (path / "config.json").write_text(json.dumps({**config, "model_type": "own", "auto_map": code}))
    return dataclasses.replace(model, trust_remote_code=True)


def test_model_with_code_of_its_own_is_judged_by_that_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr(sys, "path", [*sys.path])
    good = save_with_own_code(tmp_path / "good", supported=True)
    bad = save_with_own_code(tmp_path / "bad", supported=False)
    (tmp_path / "bad" / "model.safetensors").write_bytes(b"no weights")

    assert type(HuggingFaceAdapter.load(good)._model).__name__ == "OwnForCausalLM"
    with pytest.raises(AdapterError, match=r"OwnForCausalLM.*cannot be made sparse"):
        HuggingFaceAdapter.load(bad)


@pytest.mark.parametrize(
    ("reference", "code_revision"),
    [("own.OwnForCausalLM", "abc"), ("org/model--own.OwnForCausalLM", "abc"), ("org/code--own.OwnForCausalLM", None)],
)
def test_code_is_judged_at_the_models_own_revision(reference: str, code_revision: str | None) -> None:
    options = ModelOptions("org/model", revision="abc", trust_remote_code=True)
    config = LlamaConfig(auto_map={"AutoModelForCausalLM": reference})

    assert _remote_code(options, config) == {"code_revision": code_revision}
    assert _remote_code(dataclasses.replace(options, trust_remote_code=False), config) == {}
    assert _remote_code(options, LlamaConfig()) == {}
