"""Every masker of the catalog keeps the contract: on a whole prompt, on grouped heads, padding, windows, dtypes."""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Any

import pytest
import torch

from hpc_bench import catalog
from hpc_bench.adapters.base import AdapterError
from hpc_bench.adapters.sparse.attention_interface import attend
from hpc_bench.adapters.sparse.state import SparseState
from hpc_bench.attention.base import AttentionConfig, AttentionInputs, Chain, Masker
from hpc_bench.attention.maskers.h2o import H2O
from hpc_bench.attention.maskers.local import Local
from hpc_bench.attention.maskers.oracle_top_k import OracleTopK
from hpc_bench.attention.maskers.random_sampling import RandomSampling
from hpc_bench.attention.maskers.sink import Sink
from hpc_bench.errors import SweepError
from hpc_bench.plugin_checks.layer_walk import PASSES, TOKENS, Course, Tensors, visible_mask, walk
from hpc_bench.plugin_checks.masker import check_keeping_everything, check_masker
from hpc_bench.plugin_checks.watched import Case
from tests.support.attention_walk import SCALE, float64_attention, masker, options, shape, tensors

NAMES = catalog.names("masker")
BUDGETS = ["small", "share"]
FITTED = {"double_sparsity", "hash_attention"}
"""Whose files fit one number of key heads."""
MIXED: Chain = (Sink(2), Local(3), OracleTopK(0.2))


def test_the_plans_maskers_are_all_there() -> None:
    assert set(NAMES) >= {
        *("sink", "local", "streaming", "oracle_top_k", "oracle_top_p", "hash_attention", "double_sparsity", "quest"),
        *("pq_cache", "random_sampling", "adaptive_sampling", "magic_pig", "h2o", "snapkv"),
    }


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("name", NAMES)
def test_masker_keeps_the_contract(name: str, budget: str) -> None:
    for kv_heads in [(1,), (2,), (4,)] if name in FITTED else [(1, 2, 4)]:
        check_masker(masker(name, budget, kv_heads[0]), shapes=[shape(number) for number in kv_heads])


@pytest.mark.parametrize("budget", ["all", "share all", "beyond"])
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize("name", NAMES)
def test_keeping_everything_is_dense(name: str, kv_heads: int, budget: str) -> None:
    check_keeping_everything(Case(masker(name, budget, kv_heads), shape(kv_heads)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("name", NAMES)
def test_only_visible_keys_are_kept_and_every_query_keeps_some(name: str, budget: str, dtype: torch.dtype) -> None:
    padding = (0, 7, 13)
    got = walk((masker(name, budget),), tensors(batch=3).to(dtype), Course(padding=padding))

    for kept, end in zip(got.kept, itertools.accumulate(PASSES[1:], initial=PASSES[0]), strict=False):
        visible = visible_mask(end, end + kept.shape[2], padding)
        assert bool((kept[~visible.expand_as(kept)] == 0).all())
        assert bool((kept > 0).any(-1).all())
        assert bool((kept <= 1).all())
    assert all(bool(output.isfinite().all()) for output in got.outputs)


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("name", NAMES)
def test_small_budgets_leave_keys_out(name: str, budget: str) -> None:
    got = walk((masker(name, budget),), tensors(seed=4))

    assert 0 < got.state.density() < 0.9


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("name", sorted({*NAMES} - {"h2o"}))  # whose history moves on with every pass
def test_question_at_once_selects_as_token_by_token(name: str, budget: str) -> None:
    chain = (masker(name, budget),)
    what = tensors(seed=2)

    at_once = walk(chain, what, Course((24, 8)))
    one_by_one = walk(chain, what, Course((24, *[1] * 8)))

    for number, kept in enumerate(one_by_one.kept):
        torch.testing.assert_close(at_once.kept[0][:, :, number, : 25 + number], kept[:, :, 0])


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("name", NAMES)
def test_sliding_window_keeps_within_itself(name: str, budget: str) -> None:
    window = 10
    chain = (masker(name, budget),)

    got = walk(chain, tensors(), Course(window=window))

    end = PASSES[0]
    for kept in got.kept:
        start, end = end, end + kept.shape[2]
        first = max(0, start - window + 1)
        visible = visible_mask(start, end, window=window)[..., first:]
        assert kept.shape[-1] == end - first
        assert bool((kept[~visible.expand_as(kept)] == 0).all())


@pytest.mark.parametrize(
    "name", sorted({*NAMES} - {"h2o", "snapkv"})
)  # whose choice looks at queries beyond the window
def test_forgotten_keys_change_nothing_within_a_window(name: str) -> None:
    chain = (masker(name, "small"),)
    what = tensors(tokens=40, seed=8)

    forgetting = walk(chain, what, Course((24, 6, 6, 1), window=10)).kept[2:]
    fresh = walk(chain, what, Course((24, 12, 1), window=10))

    assert torch.equal(forgetting[-1], fresh.kept[-1])


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize("padding", [(0,), (0, 7, 13)])
@pytest.mark.parametrize("name", NAMES)
def test_output_is_attention_over_what_was_kept(name: str, padding: tuple[int, ...], kv_heads: int) -> None:
    what = tensors(len(padding), kv_heads)
    got = walk((masker(name, "share", kv_heads),), what, Course(padding=padding))

    end = PASSES[0]
    for kept, output in zip(got.kept, got.outputs, strict=True):
        start, end = end, end + kept.shape[2]
        want = float64_attention(what.query[:, :, start:end], what.key[:, :, :end], what.value[:, :, :end], kept)
        torch.testing.assert_close(output.double(), want, atol=1e-5, rtol=1e-5)


@dataclasses.dataclass(frozen=True)
class Nothing(Masker):
    """Stands for a draw that leaves a query nothing."""

    def select(self, inputs: AttentionInputs, kept: torch.Tensor) -> torch.Tensor:
        return kept


@pytest.mark.parametrize("softcap", [None, 2.0])
def test_query_for_which_nothing_is_kept_attends_to_itself(softcap: float | None) -> None:
    what = tensors()
    state = SparseState((Nothing(),), position=24)
    state.begin_pass(TOKENS - 24)

    output, _ = attend(
        torch.nn.Module(), what.query[:, :, 24:], what.key, what.value, None, SCALE, softcap=softcap, sparse_state=state
    )

    torch.testing.assert_close(output, what.value[:, :, 24:].repeat_interleave(2, 1).transpose(1, 2))


@dataclasses.dataclass(frozen=True)
class Wrong(Masker):
    """A masker that breaks the contract."""

    how: str

    def select(self, inputs: AttentionInputs, kept: torch.Tensor) -> torch.Tensor:
        made = {
            "above one": torch.full_like(kept, 2.0),
            "lowers": torch.zeros_like(kept),
            "not a number": torch.full_like(kept, torch.nan),
            "heads": kept.expand(-1, 2, -1, -1),
            "bool": kept > 0,
        }
        return made[self.how]


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("above one", "above 1, or below"),
        ("lowers", "above 1, or below"),
        ("not a number", "above 1, or below"),
        ("heads", r"\[1, 2, 8, 32\] where float32 \[1 or 1, 1 or 4, 8, 32\] is expected"),
        ("bool", "torch.bool"),
    ],
)
def test_masker_that_breaks_the_contract_is_named(how: str, said: str) -> None:
    what = tensors()
    state = SparseState((Sink(2), Wrong(how)), position=24)
    state.begin_pass(TOKENS - 24)

    with pytest.raises(ValueError, match=f"masker Wrong returned .*{said}"):
        attend(torch.nn.Module(), what.query[:, :, 24:], what.key, what.value, None, SCALE, sparse_state=state)


def test_capped_scores_are_capped_before_the_bias() -> None:
    what, cap = tensors(), 1.5
    state = SparseState(MIXED, position=24)
    state.begin_pass(TOKENS - 24)
    recorded: list[torch.Tensor] = []
    state.recorder = lambda inputs, kept: recorded.append(kept)
    query = what.query[:, :, 24:]

    output, _ = attend(torch.nn.Module(), query, what.key, what.value, None, SCALE, softcap=cap, sparse_state=state)

    scores = query.double() @ what.key.double().repeat_interleave(2, 1).transpose(-1, -2) * SCALE
    weights = torch.where(recorded[0] > 0, (cap * (scores / cap).tanh()).exp(), 0.0)
    weights = weights / weights.sum(-1, keepdim=True)
    want = (weights @ what.value.double().repeat_interleave(2, 1)).transpose(1, 2)
    torch.testing.assert_close(output.double(), want, atol=1e-5, rtol=1e-5)


def test_query_that_sees_nothing_gives_finite_output() -> None:
    mask = visible_mask(0, 4, padding=(0, 2))
    what = tensors(batch=2, tokens=4)
    state = SparseState(MIXED)
    state.begin_pass(4)

    output, _ = attend(torch.nn.Module(), what.query, what.key, what.value, mask, SCALE, sparse_state=state)

    assert bool(output.isfinite().all())


def test_density_is_the_share_of_visible_keys_for_each_layer() -> None:
    got = walk((Sink(1),), tensors(), Course((4, 2, 1)))

    expected = (1 / 5 + 1 / 6 + 1 / 7) / 3
    assert got.state.density() == pytest.approx(expected, rel=1e-6)
    assert got.state.layer_density() == (pytest.approx(expected, rel=1e-6),)


def test_error_is_that_of_the_output_and_is_measured_where_asked() -> None:
    what = tensors()
    got = walk((Sink(2), Local(2)), what, Course(measure_error=1.0))
    dense = walk((), what)

    per_query = [
        ((sparse - exact).norm(dim=-1) / exact.norm(dim=-1)).mean((0, 2))
        for sparse, exact in zip(got.outputs, dense.outputs, strict=True)
    ]
    assert got.state.error() == pytest.approx(float(torch.cat(per_query).mean()), rel=1e-4)
    assert walk((Sink(2),), what).state.error() is None
    full = walk((Sink(1.0),), what, Course(measure_error=1.0)).state
    assert full.error() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("queries", [1, 4, 12])
@pytest.mark.parametrize("chain", [(), MIXED], ids=["dense", "sparse"])
def test_no_mask_means_causal_with_the_cache_before(chain: Chain, queries: int) -> None:
    what = tensors(kv_heads=4, tokens=12)
    outputs = []
    for mask in (None, visible_mask(12 - queries, 12)):
        state = SparseState(chain, position=12 - queries)
        state.begin_pass(queries)
        query = what.query[:, :, 12 - queries :]
        output, _ = attend(torch.nn.Module(), query, what.key, what.value, mask, SCALE, sparse_state=state)
        outputs.append(output)

    torch.testing.assert_close(*outputs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("extra", ["s_aux", "indices", "position_bias"])
def test_attention_with_extras_is_refused(extra: str) -> None:
    what, state = tensors(), SparseState(MIXED)
    state.begin_pass(TOKENS)
    kwargs: dict[str, Any] = {extra: torch.ones(1), "sparse_state": state}

    with pytest.raises(AdapterError, match=extra):
        attend(torch.nn.Module(), what.query, what.key, what.value, None, 1.0, **kwargs)


def test_layer_that_sees_part_of_a_pass_is_refused() -> None:
    what, state = tensors(), SparseState(MIXED)
    state.begin_pass(TOKENS)

    with pytest.raises(AdapterError, match=f"shows layer 0 1 of the {TOKENS} tokens of a pass"):
        attend(torch.nn.Module(), what.query[:, :, -1:], what.key, what.value, None, SCALE, sparse_state=state)


def test_attention_that_several_layers_share_is_refused() -> None:
    what, state = tensors(), SparseState(MIXED)
    state.begin_pass(TOKENS)
    attend(torch.nn.Module(), what.query, what.key, what.value, None, SCALE, sparse_state=state)

    with pytest.raises(AdapterError, match="several attention layers with the number 0"):
        attend(torch.nn.Module(), what.query, what.key, what.value, None, SCALE, sparse_state=state)


# Sampling


SAMPLING = [name for name in NAMES if catalog.resolve("masker", name).samples]


@pytest.mark.parametrize("name", SAMPLING)
def test_draws_depend_on_seed_layer_and_position_alone(name: str) -> None:
    small = options(name, "small")
    one, other = (catalog.build("masker", name, {**small, "seed": seed}) for seed in (0, 1))
    what = tensors()
    same = Tensors(*(part[:, :, :1].expand(-1, -1, TOKENS, -1).contiguous() for part in dataclasses.astuple(what)))

    base = walk((one,), what).kept
    assert not all(torch.equal(a, b) for a, b in zip(base, walk((other,), what).kept, strict=True))
    if name != "magic_pig":  # whose draw is the projections, the same at every position
        drawn = walk((one,), same, Course((24, 1, 1))).kept
        assert not torch.equal(drawn[0], drawn[1][..., :25])
    if name == "random_sampling":
        assert not torch.equal(base[0], walk((one,), what, Course(layer=1)).kept[0])


def test_random_sampling_draws_its_share() -> None:
    kept = walk((RandomSampling(0.1),), tensors(tokens=4001), Course((4000, 1))).kept[0]

    assert float((kept > 0).float().mean()) == pytest.approx(0.1, abs=5 * math.sqrt(0.09 / 4000))
    assert sorted(kept.unique().tolist()) == pytest.approx([0.0, 0.1])


# Wrong parameters


def test_two_sampling_maskers_are_refused() -> None:
    with pytest.raises(ValueError, match="2 sampling maskers"):
        AttentionConfig((RandomSampling(0.1), Sink(1), RandomSampling(0.2)))


def test_masker_behind_a_sampling_one_is_refused() -> None:
    """What it adds would depend on the draw, and the weights of drawn keys would be wrong."""
    AttentionConfig((OracleTopK(4), RandomSampling(0.1)))
    with pytest.raises(ValueError, match="must be the last"):
        AttentionConfig((RandomSampling(0.1), OracleTopK(4)))


def test_sparse_prefill_is_refused_where_the_prefill_must_be_dense() -> None:
    with pytest.raises(ValueError, match="H2O, which learns from a dense prefill"):
        AttentionConfig((H2O(2, 2),), sparse_prefill=True)


@pytest.mark.parametrize("size", [0, -1, 0.0, 1.5])
@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("sink", "size"),
        ("local", "size"),
        ("streaming", "sink"),
        ("streaming", "local"),
        ("oracle_top_k", "heavy"),
        ("hash_attention", "heavy"),
        ("double_sparsity", "heavy"),
        ("quest", "heavy"),
        ("pq_cache", "heavy"),
        ("adaptive_sampling", "base_rate"),
        ("adaptive_sampling", "init"),
        ("adaptive_sampling", "local"),
        ("h2o", "heavy"),
        ("h2o", "recent"),
        ("snapkv", "keep"),
    ],
)
def test_wrong_size_is_refused(name: str, key: str, size: float) -> None:
    with pytest.raises(SweepError, match=f"{key} must be a number of tokens"):
        catalog.build("masker", name, {**options(name, "small"), key: size})


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("oracle_top_p", {"p": 0.0}, "p must be a share"),
        ("oracle_top_p", {"p": 1.01}, "p must be a share"),
        ("quest", {"page_size": 0}, "page_size must be 1 to 4096"),
        ("quest", {"label_bits": 17}, "label_bits must be 1 to 16"),
        ("pq_cache", {"sub_dim": 0}, "sub_dim must be at least 1"),
        ("pq_cache", {"bits": 13}, "bits must be 1 to 12"),
        ("double_sparsity", {"group_factor": 0}, "group_factor must be at least 1"),
        ("double_sparsity", {"label_bits": 0}, "label_bits must be 1 to 16"),
        ("double_sparsity", {"channels": "no/such.safetensors"}, "does not exist"),
        ("hash_attention", {"weights": "weights.pickle"}, "ending in .safetensors"),
        ("hash_attention", {"bits": 0}, "bits must be 1 to 1024"),
        ("hash_attention", {"mlp_layers": 0}, "mlp_layers must be 1 to 16"),
        ("hash_attention", {"activation": "softmax"}, "silu"),
        ("random_sampling", {"rate": 0.0}, "rate must be a probability"),
        ("random_sampling", {"rate": 2.0}, "rate must be a probability"),
        ("adaptive_sampling", {"epsilon": 1.0}, "epsilon must lie between"),
        ("adaptive_sampling", {"delta": 0.0}, "delta must lie between"),
        ("magic_pig", {"l": 1}, "l must be at least 2"),
        ("magic_pig", {"k": 63}, "k must be 1 to 62"),
        ("snapkv", {"kernel": 4}, "kernel must be an odd number"),
        ("snapkv", {"keep": 2}, "keep must be more than window"),
        ("snapkv", {"window": 0}, "window must be at least 1"),
        ("sink", {"sise": 4}, "unknown option of sink 'sise'; did you mean 'size'"),
        ("sink", {"size": "four"}, "valid integer, or input should be a valid number"),
    ],
)
def test_wrong_parameter_is_refused(name: str, change: dict[str, Any], message: str) -> None:
    with pytest.raises(SweepError, match=message):
        catalog.build("masker", name, {**options(name, "small"), **change})
