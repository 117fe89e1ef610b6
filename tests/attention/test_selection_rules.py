"""Each masker's rule against a textbook version of it: query by query, in float64, straight from the paper."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import pytest
import torch

from hpc_bench import catalog
from hpc_bench.attention.base import Chain, Masker
from hpc_bench.attention.maskers.adaptive_sampling import AdaptiveSampling
from hpc_bench.attention.maskers.double_sparsity import DoubleSparsity
from hpc_bench.attention.maskers.h2o import H2O
from hpc_bench.attention.maskers.hash_attention import HashAttention
from hpc_bench.attention.maskers.local import Local
from hpc_bench.attention.maskers.magic_pig import MagicPig
from hpc_bench.attention.maskers.oracle_top_k import OracleTopK
from hpc_bench.attention.maskers.oracle_top_p import OracleTopP
from hpc_bench.attention.maskers.pq_cache import PQCache
from hpc_bench.attention.maskers.quest import Quest
from hpc_bench.attention.maskers.sink import Sink
from hpc_bench.attention.maskers.snapkv import SnapKV
from hpc_bench.attention.maskers.streaming import Streaming
from hpc_bench.attention.random_draw import uniform
from hpc_bench.attention.tensor_file import load_tensors
from hpc_bench.plugin_checks.layer_walk import PASSES, Course, Tensors, walk
from tests.support.attention_walk import HEADS, SCALE, block_inputs, files_for, float64_scores, masker, tensors

CONTEXT = PASSES[0]


@dataclass(frozen=True)
class Seat:
    """One query of one head: what the rule may look at."""

    query: torch.Tensor
    """float64 [head_dim]"""
    keys: torch.Tensor
    """float64 [position + 1, head_dim]: all keys up to the query's own"""
    head: int
    key_head: int

    @property
    def position(self) -> int:
        return len(self.keys) - 1

    @property
    def scores(self) -> list[float]:
        return (self.keys @ self.query * SCALE).tolist()


Rule = Callable[[Any, Seat, set[int]], set[int]]
RULES: dict[type[Masker], Rule] = {}


def rule(kind: type[Masker]) -> Callable[[Rule], Rule]:
    def note(function: Rule) -> Rule:
        RULES[kind] = function
        return function

    return note


def count(size: float, seen: int) -> int:
    return min(seen, size if isinstance(size, int) else max(1, math.floor(seen * size + 0.5)))


def best(scores: Sequence[float], kept: set[int], size: float) -> set[int]:
    """The highest-scoring keys that are not kept; of equal ones the earlier."""
    free = [key for key in range(len(scores)) if key not in kept]
    return set(sorted(free, key=lambda key: (-scores[key], key))[: count(size, len(scores))])


def rounded(values: torch.Tensor, bits: int) -> torch.Tensor:
    if bits == 16:
        return values
    step = (values.max() - values.min()) / (2**bits - 1)
    return ((values - values.min()) / step).round() * step + values.min()


@rule(Sink)
def first_keys(m: Sink, seat: Seat, kept: set[int]) -> set[int]:
    return set(range(count(m.size, seat.position + 1)))


@rule(Local)
def last_keys(m: Local, seat: Seat, kept: set[int]) -> set[int]:
    seen = seat.position + 1
    return set(range(seen - count(m.size, seen), seen))


@rule(Streaming)
def both_ends(m: Streaming, seat: Seat, kept: set[int]) -> set[int]:
    return first_keys(Sink(m.sink), seat, kept) | last_keys(Local(m.local), seat, kept)


@rule(OracleTopK)
def highest(m: OracleTopK, seat: Seat, kept: set[int]) -> set[int]:
    return best(seat.scores, kept, m.heavy)


@rule(OracleTopP)
def smallest_mass(m: OracleTopP, seat: Seat, kept: set[int]) -> set[int]:
    weights = torch.tensor(seat.scores, dtype=torch.float64).softmax(-1).tolist()
    chosen: set[int] = set()
    for key in sorted(set(range(len(weights))) - kept, key=lambda key: -weights[key]):
        if sum(weights[k] for k in kept | chosen) >= m.p:
            break
        chosen.add(key)
    return chosen


@rule(HashAttention)
def most_equal_bits(m: HashAttention, seat: Seat, kept: set[int]) -> set[int]:
    tensors = {name: tensor.double() for name, tensor in load_tensors(m.weights).items()}

    def bits(values: torch.Tensor, which: str, head: int) -> torch.Tensor:
        for n in range(m.mlp_layers):
            name = f"layers.0.{which}.{n}"
            values = values @ tensors[f"{name}.weight"][head] + tensors[f"{name}.bias"][head]
            values = values * torch.sigmoid(values) if n < m.mlp_layers - 1 else values
        return values >= 0

    mine, theirs = bits(seat.query, "query", seat.head), bits(seat.keys, "key", seat.key_head)
    return best((mine == theirs).sum(-1).tolist(), kept, m.heavy)


@rule(DoubleSparsity)
def label_channels(m: DoubleSparsity, seat: Seat, kept: set[int]) -> set[int]:
    order = load_tensors(m.channels)["layers.0.channels"][seat.key_head].tolist()
    channels = order[: max(1, len(seat.query) // m.group_factor)]
    labels = [rounded(key[channels], m.label_bits) for key in seat.keys]
    return best([float(label @ seat.query[channels]) for label in labels], kept, m.heavy)


@rule(Quest)
def best_pages(m: Quest, seat: Seat, kept: set[int]) -> set[int]:
    pages = [range(start, min(start + m.page_size, len(seat.keys))) for start in range(0, len(seat.keys), m.page_size)]

    def bound(page: range) -> float:
        low, high = (rounded(edge, m.label_bits) for edge in seat.keys[page.start : page.stop].aminmax(dim=0))
        return float(torch.maximum(seat.query * low, seat.query * high).sum())

    chosen: set[int] = set()
    for page in sorted(pages, key=lambda page: -bound(page)):
        if len(chosen) >= count(m.heavy, len(seat.keys)):
            break
        chosen |= set(page) - kept
    return chosen


@rule(PQCache)
def quantized_keys(m: PQCache, seat: Seat, kept: set[int]) -> set[int]:
    made = torch.zeros_like(seat.keys)
    for start in range(0, seat.keys.shape[1], m.sub_dim):
        part = slice(start, start + m.sub_dim)
        centroids = k_means(seat.keys[:CONTEXT, part], 2**m.bits)
        for key, values in enumerate(seat.keys[:, part]):
            made[key, part] = centroids[(centroids - values).norm(dim=-1).argmin()]
    return best((made @ seat.query).tolist(), kept, m.heavy)


def k_means(points: torch.Tensor, most: int) -> torch.Tensor:
    number = min(most, len(points))
    centroids = torch.stack([points[i * len(points) // number] for i in range(number)])
    for _ in range(10):
        nearest = [int((centroids - point).norm(dim=-1).argmin()) for point in points]
        for c in range(len(centroids)):
            mine = [point for point, near in zip(points, nearest, strict=True) if near == c]
            if mine:
                centroids[c] = torch.stack(mine).mean(0)
    return centroids


def seats(what: Tensors) -> list[list[list[Seat]]]:
    """[pass][head][query], of the passes behind the prefill."""
    group = HEADS // what.key.shape[1]
    made, end = [], PASSES[0]
    for length in PASSES[1:]:
        start, end = end, end + length
        made.append(
            [
                [
                    Seat(what.query[0, h, p].double(), what.key[0, h // group, : p + 1].double(), h, h // group)
                    for p in range(start, end)
                ]
                for h in range(HEADS)
            ]
        )
    return made


def chosen_keys(kept: torch.Tensor) -> set[int]:
    return set(kept.nonzero()[:, 0].tolist())


RULED = [
    *[kind(size) for kind in (Sink, Local, OracleTopK) for size in (1, 3, 0.3, 10**9)],
    Streaming(2, 0.2),
    *[OracleTopP(p) for p in (0.05, 0.5, 0.9, 0.99)],
    *[Quest(heavy, page, bits) for heavy, page, bits in ((3, 4, 16), (0.3, 4, 16), (5, 7, 3), (1, 1, 16))],
    *[PQCache(heavy, 4, 2) for heavy in (3, 0.3)],
    PQCache(4, 8, 5),
]


@pytest.mark.parametrize("before", [(), (Sink(2), Local(3))], ids=["alone", "behind streaming"])
@pytest.mark.parametrize("one", RULED, ids=str)
def test_selection_follows_the_rule(one: Masker, before: Chain) -> None:
    check_rule((*before, one), tensors(seed=11))


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize("name", ["hash_attention", "double_sparsity", "quest", "pq_cache", "oracle_top_k"])
def test_selection_follows_the_rule_for_grouped_heads(name: str, kv_heads: int) -> None:
    check_rule((Sink(1), masker(name, "share", kv_heads)), tensors(kv_heads=kv_heads, seed=12))


@pytest.mark.parametrize("bits", [2, 4, 16])
def test_labels_are_rounded_to_their_bits(bits: int) -> None:
    check_rule((DoubleSparsity(4, files_for(2)["double_sparsity"]["channels"], 2, bits),), tensors(seed=13))


def test_later_masker_counts_among_what_is_left() -> None:
    check_rule((OracleTopK(3), Sink(2), OracleTopK(4), Local(2), Quest(3, 4)), tensors(seed=14))


def check_rule(chain: Chain, what: Tensors) -> None:
    got = walk(chain, what)
    for number, heads in enumerate(seats(what)):
        for head, queries in enumerate(heads):
            for place, seat in enumerate(queries):
                want: set[int] = set()
                for link in chain:
                    want |= RULES[type(link)](link, seat, want)
                kept = got.kept[number][0, head, place]
                assert chosen_keys(kept) == want, (number, head, place)
                assert set(kept.unique().tolist()) <= {0.0, 1.0}


def test_equal_scores_keep_the_earlier_keys() -> None:
    what = tensors()
    flat = Tensors(what.query, torch.ones_like(what.key), what.value)

    kept = walk((Sink(2), OracleTopK(5)), flat).kept[-1]

    assert bool((kept[..., :7] == 1).all())
    assert bool((kept[..., 7:] == 0).all())


# Those with a history


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize(("keep", "window", "kernel"), [(8, 3, 3), (0.4, 2, 1), (12, 5, 5), (10**6, 2, 3)])
def test_snapkv_keeps_what_the_end_of_the_context_attends_to(
    keep: float, window: int, kernel: int, kv_heads: int
) -> None:
    what, group = tensors(kv_heads=kv_heads, seed=21), HEADS // kv_heads
    got = walk((SnapKV(keep, window, kernel),), what)

    older = CONTEXT - window
    for key_head in range(kv_heads):
        votes = [0.0] * CONTEXT
        for head in range(key_head * group, (key_head + 1) * group):
            for position in range(older, CONTEXT):
                scores = float64_scores(what.query[:, head : head + 1], what.key[:, key_head : key_head + 1])
                weights = scores[0, 0, position, : position + 1].softmax(-1).tolist()
                votes = [vote + (weights[key] if key <= position else 0) for key, vote in enumerate(votes)]
        half = kernel // 2
        pooled = [sum(votes[max(0, k - half) : min(older, k + half + 1)]) / kernel for k in range(older)]
        total = keep if isinstance(keep, int) else math.floor(CONTEXT * keep + 0.5)
        chosen = set(sorted(range(older), key=lambda key: -pooled[key])[: max(0, total - window)])
        chosen |= set(range(older, CONTEXT))
        for kept in got.kept:
            for head in range(key_head * group, (key_head + 1) * group):
                for query in range(kept.shape[2]):
                    position = kept.shape[-1] - kept.shape[2] + query
                    assert chosen_keys(kept[0, head, query]) == chosen | set(range(CONTEXT, position + 1))


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize("before", [(), (Sink(2),)], ids=["alone", "behind sink"])
@pytest.mark.parametrize(("heavy", "recent"), [(3, 4), (0.2, 0.1), (1, 20)])
def test_h2o_evicts_what_drew_least_attention(heavy: float, recent: float, before: Chain, kv_heads: int) -> None:
    what, group = tensors(kv_heads=kv_heads, seed=22), HEADS // kv_heads
    got = walk((*before, H2O(heavy, recent)), what)

    scores = float64_scores(what.query, what.key)[0]
    sinks = set(range(2)) if before else set()
    for key_head in range(kv_heads):
        heads = range(key_head * group, (key_head + 1) * group)
        drawn, alive, past = [0.0] * sum(PASSES), set(range(CONTEXT)), CONTEXT
        for head in heads:
            for position in range(CONTEXT):
                for key, weight in enumerate(scores[head, position, : position + 1].softmax(-1).tolist()):
                    drawn[key] += weight
        for kept in got.kept:
            length, gained, next_alive = kept.shape[2], [0.0] * sum(PASSES), set(range(0))
            for head in heads:
                for query in range(length):
                    position = past + query
                    late = {key for key in range(past) if key >= past - count(recent, position + 1)} & alive
                    old = sorted(alive - late - sinks, key=lambda key: -drawn[key])
                    mine = sinks | late | set(old[: count(heavy, position + 1)]) | set(range(past, position + 1))
                    assert chosen_keys(kept[0, head, query]) == mine
                    next_alive |= mine
                    weights = scores[head, position, sorted(mine)].softmax(-1).tolist()
                    for key, weight in zip(sorted(mine), weights, strict=True):
                        gained[key] += weight
            drawn = [a + b for a, b in zip(drawn, gained, strict=True)]
            alive, past = next_alive, past + length


# Those that sample


def test_adaptive_sampling_draws_with_the_probability_that_the_bound_asks_for() -> None:
    m = AdaptiveSampling(base_rate=0.3, epsilon=0.3, delta=0.2, init=2, local=3, seed=5)
    what = tensors(seed=23)
    kept = walk((OracleTopK(2), m), what, Course((24, 8))).kept[0][0]

    inputs = block_inputs(what, past=24)
    first = uniform(inputs, m.seed, purpose=2)[0]
    scores = float64_scores(what.query[:, :, 24:], what.key)[0]
    rates = []
    for head in range(HEADS):
        for query in range(8):
            seen = 25 + query
            weights = scores[head, query, :seen].exp()
            top = set(weights.argsort(descending=True)[:2].tolist())
            sure = top | set(range(2)) | set(range(seen - 3, seen))
            free = [key for key in range(seen) if key not in sure]
            sample = [float(weights[key]) for key in free if first[head, query, key] < 0.3]
            if len(sample) < 2:
                rate = 1.0
            else:
                mean = sum(sample) / len(sample)
                variance = sum((value - mean) ** 2 for value in sample) / (len(sample) - 1)
                denominator = sum(float(weights[key]) for key in sure) + len(free) * mean
                z = NormalDist().inv_cdf(1 - 0.2 / 2)
                budget = (z * len(free) * math.sqrt(variance) / (0.3 * denominator)) ** 2
                rate = min(1.0, max(0.3, budget / len(free)))
            rates.append(rate)
            assert all(kept[head, query, key] == 1 for key in sure)
            for key in free:
                assert float(kept[head, query, key]) in (0.0, pytest.approx(rate, rel=1e-4))
    assert min(rates) < 0.5 < max(rates)


@pytest.mark.parametrize("center", [True, False])
def test_magic_pig_keeps_keys_that_collide_twice_with_their_probability(center: bool) -> None:
    m = MagicPig(6, 3, center, seed=4)
    what = tensors(seed=24)
    kept = walk((m,), what, Course((24, 5))).kept[0][0]

    draw = torch.Generator().manual_seed(4 * 1_000_003)
    planes = torch.randn(what.key.shape[-1], 18, generator=draw).double()
    for head in range(HEADS):
        keys = what.key[0, head // 2].double()
        keys = keys - keys[:24].mean(0) if center else keys
        for query in range(5):
            vector = what.query[0, head, 24 + query].double()
            for key in range(29):
                same = ((vector @ planes > 0) == (keys[key] @ planes > 0)).reshape(6, 3).all(-1).sum()
                angle = math.acos(float(vector @ keys[key] / vector.norm() / keys[key].norm()))
                p = (1 - angle / math.pi) ** 3
                want = 1 - (1 - p) ** 6 - 6 * p * (1 - p) ** 5
                expected = want if same >= 2 and key <= 24 + query else 0.0
                assert float(kept[head, query, key]) == pytest.approx(expected, rel=1e-3)


def test_every_masker_has_a_rule_that_is_tested() -> None:
    elsewhere = {"h2o", "snapkv", "adaptive_sampling", "magic_pig", "random_sampling"}
    built_in = set(catalog.BUILT_IN["masker"])

    assert {catalog.resolve("masker", name) for name in built_in - elsewhere} == set(RULES)
