"""Every masker of the catalog keeps the contract, and each built-in one follows its rule."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch

from hpc_bench import catalog
from hpc_bench.adapters.attention_interface import SparseState, attend
from hpc_bench.adapters.base import AdapterError
from hpc_bench.attention.base import AttentionInputs, Chain, Masker
from hpc_bench.attention.bias import chain_bias
from hpc_bench.attention.local import Local
from hpc_bench.attention.oracle_top_k import OracleTopK
from hpc_bench.attention.sink import Sink
from hpc_bench.errors import SweepError

NAMES = catalog.names("masker")
SIZES = [1, 3, 0.3, 10**9]
MIXED: Chain = (Sink(2), Local(3), OracleTopK(0.2))


def masker(name: str, size: int | float) -> Masker:
    first = dataclasses.fields(catalog.resolve("masker", name))[0].name
    built: Masker = catalog.build("masker", name, {first: size})
    return built


def causal(queries: int, keys: int, padding: tuple[int, ...] = (0,), window: int | None = None) -> torch.Tensor:
    """Left padding of a number of keys for each row of the batch; optionally a sliding window."""
    key = torch.arange(keys)
    query = torch.arange(keys - queries, keys)[:, None]
    visible = (key <= query) & (key > query - (window or keys))
    return torch.stack([visible & (key >= pad) for pad in padding])[:, None]


def inputs(visible: torch.Tensor, heads: int = 4, kv_heads: int = 2, seed: int = 0) -> AttentionInputs:
    draw = torch.Generator().manual_seed(seed)
    batch, _, queries, keys = visible.shape
    query = torch.randn(batch, heads, queries, 8, generator=draw)
    key = torch.randn(batch, kv_heads, keys, 8, generator=draw)
    return AttentionInputs(query, key, visible, scaling=8**-0.5, layer=0)


def select(chain: Chain, seen: AttentionInputs) -> torch.Tensor:
    kept = torch.zeros(seen.visible.shape)
    for link in chain:
        kept = link.select(seen, kept)
    return kept.expand(*seen.query.shape[:3], seen.key.shape[2])


def float64_scores(seen: AttentionInputs) -> torch.Tensor:
    group = seen.query.shape[1] // seen.key.shape[1]
    keys = seen.key.double().repeat_interleave(group, 1)
    return seen.query.double() @ keys.transpose(-1, -2) * seen.scaling


def attention(seen: AttentionInputs, value: torch.Tensor, probability: torch.Tensor) -> torch.Tensor:
    """Importance-weighted attention by its definition, in float64; queries that keep nothing give zeros."""
    kept = probability.double() * seen.visible
    weights = torch.where(kept > 0, float64_scores(seen).exp() / kept.clamp(min=1e-9), 0.0)
    weights = weights / weights.sum(-1, keepdim=True).clamp(min=1e-300)
    group = seen.query.shape[1] // seen.key.shape[1]
    return (weights @ value.double().repeat_interleave(group, 1)).transpose(1, 2)


def run(chain: Chain, seen: AttentionInputs, value: torch.Tensor) -> torch.Tensor:
    module = torch.nn.Module()
    module.num_key_value_groups = seen.query.shape[1] // seen.key.shape[1]
    state = SparseState(chain)
    output, _ = attend(module, seen.query, seen.key, value, seen.visible, seen.scaling, sparse_state=state)
    assert output.is_contiguous()
    return output


def values(seen: AttentionInputs) -> torch.Tensor:
    return torch.randn(seen.key.shape, generator=torch.Generator().manual_seed(9))


MASKS = {
    "decode": causal(1, 20),
    "question": causal(5, 20),
    "prompt": causal(20, 20),
    "padded": causal(6, 20, padding=(0, 7, 13)),
    "window": causal(5, 20, window=6),
}


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", NAMES)
def test_masker_adds_visible_keys_and_lowers_nothing(name: str, size: float, mask: str) -> None:
    seen = inputs(MASKS[mask])
    before = torch.where(seen.visible & (torch.arange(20) % 4 == 0), 0.5, 0.0)

    after = masker(name, size).select(seen, before)

    assert after.dtype == torch.float32
    assert after.shape[0] in (1, seen.query.shape[0])
    assert after.shape[1] in (1, 4)
    assert after.shape[2:] == seen.visible.shape[2:]
    assert bool((after >= before).all())
    assert bool((after[~seen.visible.expand_as(after)] == 0).all())
    sees = seen.visible.any(-1).expand(after.shape[:3])
    assert bool((after > 0).any(-1)[sees].all())


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("size", [1.0, 10**9])
@pytest.mark.parametrize("name", NAMES)
def test_keeping_everything_is_dense(name: str, size: float, mask: str, kv_heads: int) -> None:
    seen = inputs(MASKS[mask], kv_heads=kv_heads)
    value = values(seen)

    sparse = run((masker(name, size),), seen, value)

    sees = seen.visible.any(-1)[:, 0]
    dense = run((), seen, value)
    assert bool(sparse.isfinite().all())
    torch.testing.assert_close(sparse[sees], dense[sees], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", NAMES)
def test_later_keys_change_nothing_for_earlier_queries(name: str, size: float) -> None:
    seen = inputs(causal(8, 20))
    changed = seen.key.clone()
    changed[:, :, 16:] = 100.0
    chain = (masker(name, size),)

    first = select(chain, seen)[:, :, :4]
    second = select(chain, dataclasses.replace(seen, key=changed))[:, :, :4]

    assert torch.equal(first, second)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", NAMES)
def test_left_padding_changes_nothing(name: str, size: float) -> None:
    alone = inputs(causal(5, 12))
    query = torch.cat([torch.randn_like(alone.query), alone.query])
    key = torch.cat([torch.randn(1, 2, 20, 8), torch.cat([torch.full((1, 2, 8, 8), 50.0), alone.key], 2)])
    padded = dataclasses.replace(alone, query=query, key=key, visible=causal(5, 20, padding=(0, 8)))
    chain = (masker(name, size),)

    got = select(chain, padded)[1:]

    assert bool((got[..., :8] == 0).all())
    assert torch.equal(got[..., 8:], select(chain, alone))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", NAMES)
def test_one_query_selects_as_the_last_of_several(name: str, size: float) -> None:
    several = inputs(causal(6, 20))
    one = dataclasses.replace(several, query=several.query[:, :, -1:], visible=causal(1, 20))
    chain = (masker(name, size),)

    assert torch.equal(select(chain, one), select(chain, several)[:, :, -1:])


def expected_count(size: float, seen: int) -> int:
    return min(seen, size if isinstance(size, int) else max(1, math.floor(seen * size + 0.5)))


def expected(chain: Chain, seen: AttentionInputs) -> torch.Tensor:
    """The selection rules of the built-in maskers, query by query, on float64 scores."""
    scores = float64_scores(seen)
    kept = torch.zeros_like(scores, dtype=torch.float32)
    for batch, head, query in torch.cartesian_prod(*(torch.arange(n) for n in scores.shape[:3])).tolist():
        row = kept[batch, head, query]
        visible = seen.visible[batch, 0, query].nonzero()[:, 0].tolist()
        for link in chain:
            if isinstance(link, Sink):
                chosen = visible[: expected_count(link.size, len(visible))]
            elif isinstance(link, Local):
                chosen = visible[len(visible) - expected_count(link.size, len(visible)) :]
            else:
                assert isinstance(link, OracleTopK)
                free = [key for key in visible if row[key] == 0]
                free.sort(key=lambda key: -float(scores[batch, head, query, key]))
                chosen = free[: expected_count(link.heavy, len(visible))]
            row[chosen] = 1.0
    return kept


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize(
    "chain",
    [*[(kind(size),) for kind in (Sink, Local, OracleTopK) for size in SIZES], MIXED, (OracleTopK(3), Local(4))],
    ids=str,
)
def test_selection_follows_the_rule(chain: Chain, mask: str) -> None:
    seen = inputs(MASKS[mask], seed=3)

    assert torch.equal(select(chain, seen), expected(chain, seen))


def test_equal_scores_keep_exactly_as_many_as_asked() -> None:
    seen = inputs(causal(3, 20))
    flat = dataclasses.replace(seen, key=torch.ones_like(seen.key))

    assert bool((select((OracleTopK(5),), flat).sum(-1) == 5).all())


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize("mask", MASKS)
def test_output_is_attention_over_what_was_kept(mask: str, kv_heads: int) -> None:
    seen = inputs(MASKS[mask], kv_heads=kv_heads)
    value = values(seen)

    got = run(MIXED, seen, value)

    sees = seen.visible.any(-1)[:, 0]
    want = attention(seen, value, expected(MIXED, seen))
    torch.testing.assert_close(got[sees].double(), want[sees], atol=1e-5, rtol=1e-5)


@dataclasses.dataclass(frozen=True)
class HalfOfTheRest(Masker):
    """Stands for a sampling masker: each key that is not kept counts as drawn with probability 0.25."""

    def select(self, inputs: AttentionInputs, kept: torch.Tensor) -> torch.Tensor:
        return torch.where(kept == 0, 0.25, kept)


def test_sampled_keys_weigh_by_the_inverse_of_their_probability() -> None:
    seen = inputs(causal(4, 20))
    value = values(seen)

    got = run((Sink(3), HalfOfTheRest()), seen, value)

    probability = torch.where(torch.arange(20) < 3, 1.0, 0.25).expand(1, 4, 4, 20)
    torch.testing.assert_close(got.double(), attention(seen, value, probability), atol=1e-5, rtol=1e-5)


def test_masker_cannot_show_what_is_hidden() -> None:
    seen = inputs(causal(4, 20, padding=(5,)))

    bias, density = chain_bias((HalfOfTheRest(),), seen)

    assert bool((bias[~seen.visible.expand_as(bias)] == -math.inf).all())
    assert float(density) == 1.0


def test_query_that_sees_nothing_has_a_finite_bias() -> None:
    bias, _ = chain_bias(MIXED, inputs(causal(4, 4, padding=(0, 2))))

    assert bool((bias[1, :, :2] == 0).all())


def test_density_counts_each_query_that_sees_anything_once() -> None:
    seen = inputs(causal(4, 4, padding=(0, 2)))

    _, density = chain_bias((Sink(1),), seen)

    assert float(density) == pytest.approx((1 + 1 / 2 + 1 / 3 + 1 / 4 + 1 + 1 / 2) / 6)


def test_bias_has_the_dtype_of_the_query() -> None:
    seen = inputs(causal(2, 8))

    bias, _ = chain_bias(MIXED, dataclasses.replace(seen, query=seen.query.bfloat16(), key=seen.key.bfloat16()))

    assert bias.dtype == torch.bfloat16


@pytest.mark.parametrize("queries", [1, 4, 12])
@pytest.mark.parametrize("chain", [(), MIXED], ids=["dense", "sparse"])
def test_no_mask_means_causal_with_the_cache_before(chain: Chain, queries: int) -> None:
    seen = inputs(causal(queries, 12))
    value = values(seen)

    without, _ = attend(
        torch.nn.Module(),
        seen.query,
        seen.key.repeat_interleave(2, 1),
        value.repeat_interleave(2, 1),
        None,
        seen.scaling,
        sparse_state=SparseState(chain),
    )

    torch.testing.assert_close(without, run(chain, seen, value), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("extra", ["s_aux", "softcap", "position_bias"])
def test_attention_with_extras_is_refused(extra: str) -> None:
    seen = inputs(causal(2, 8))
    kwargs: dict[str, Any] = {extra: torch.ones(1), "sparse_state": SparseState(MIXED)}

    with pytest.raises(AdapterError, match=extra):
        attend(torch.nn.Module(), seen.query, seen.key, values(seen), seen.visible, 1.0, **kwargs)


@pytest.mark.parametrize("size", [0, -1, 0.0, 1.5])
@pytest.mark.parametrize("name", NAMES)
def test_wrong_size_is_refused(name: str, size: float) -> None:
    with pytest.raises(SweepError, match="number of tokens"):
        masker(name, size)
