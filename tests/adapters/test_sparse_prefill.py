"""Sparse attention in the prefill, measured errors, and prefills that were made for something else."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import pytest
import torch

from hpc_bench.adapters.base import AdapterError
from hpc_bench.adapters.huggingface import HuggingFaceAdapter
from hpc_bench.adapters.sparse import state as state_module
from hpc_bench.adapters.sparse.layer_pass import LayerPass
from hpc_bench.adapters.sparse.state import SparseState
from hpc_bench.attention.base import AttentionConfig, AttentionInputs, Masker
from hpc_bench.attention.maskers.h2o import H2O
from hpc_bench.attention.maskers.local import Local
from hpc_bench.attention.maskers.quest import Quest
from hpc_bench.attention.maskers.random_sampling import RandomSampling
from hpc_bench.attention.maskers.sink import Sink
from hpc_bench.attention.maskers.snapkv import SnapKV
from hpc_bench.attention.scores import attention_weights
from hpc_bench.benchmarks.suites.needle import Needle
from hpc_bench.values import Answer, Generation, ModelOptions, Sample
from tests.support.places import TINY

STREAMING = AttentionConfig((Sink(4), Local(64)), sparse_prefill=True)
WANTED = Generation(min_new_tokens=8, max_new_tokens=8)


@pytest.fixture(scope="module")
def adapter() -> HuggingFaceAdapter:
    return HuggingFaceAdapter.load(ModelOptions(str(TINY), device="cpu", model_kwargs={"dtype": "float32"}))


@pytest.fixture(scope="module")
def sample(adapter: HuggingFaceAdapter) -> Sample:
    return next(iter(Needle(samples=1).load("512", adapter.count_tokens)))


def ask(adapter: HuggingFaceAdapter, sample: Sample, attention: AttentionConfig) -> Answer:
    prefill = adapter.prefill([sample], [attention])
    return adapter.answer(prefill, sample, attention, WANTED)


def test_sparse_prefill_that_keeps_everything_is_dense(adapter: HuggingFaceAdapter, sample: Sample) -> None:
    everything = ask(adapter, sample, AttentionConfig((Sink(1.0),), sparse_prefill=True))

    assert everything.text == ask(adapter, sample, AttentionConfig()).text
    assert (everything.density, everything.prefill_density) == (1.0, 1.0)


def test_sparse_prefill_changes_what_the_cache_holds(adapter: HuggingFaceAdapter, sample: Sample) -> None:
    dense, sparse = (
        adapter.prefill([sample], [config]).state.cache
        for config in (dataclasses.replace(STREAMING, sparse_prefill=False), STREAMING)
    )

    assert torch.equal(dense.layers[0].keys, sparse.layers[0].keys)
    assert not torch.allclose(dense.layers[1].keys, sparse.layers[1].keys, atol=1e-3)


@pytest.mark.parametrize(
    "chain",
    [STREAMING.chain, (Sink(2), Quest(24, 8)), (Local(8), RandomSampling(0.2))],
    ids=["streaming", "quest", "random"],
)
def test_sparse_prefill_equals_reading_token_by_token(
    adapter: HuggingFaceAdapter, sample: Sample, chain: tuple[Masker, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import DynamicCache

    short = dataclasses.replace(sample, context=sample.context[:900], question="", answer_prefix="", chat=False)
    monkeypatch.setattr(state_module, "LARGEST_BLOCK", 4 * 200 * 30)  # several blocks
    at_once = adapter.prefill([short], [AttentionConfig(chain, sparse_prefill=True)]).state

    cache, state = DynamicCache(config=adapter._model.config), SparseState(chain)
    for token in at_once.ids:
        state.begin_pass(1)
        with torch.inference_mode():
            adapter._model(input_ids=torch.tensor([[token]]), past_key_values=cache, sparse_state=state)

    for mine, its in zip(at_once.cache.layers, cache.layers, strict=True):
        torch.testing.assert_close(mine.keys, its.keys, atol=1e-4, rtol=1e-4)
    assert at_once.density == pytest.approx(state.density(), rel=1e-4)


def test_prefill_for_another_config_is_refused(adapter: HuggingFaceAdapter, sample: Sample) -> None:
    h2o, dense = AttentionConfig((H2O(8, 8),)), AttentionConfig()
    bare = adapter.prefill([sample])
    sparse = adapter.prefill([sample], [STREAMING])

    for prefill, attention in ((bare, h2o), (bare, STREAMING), (sparse, dense), (sparse, h2o)):
        with pytest.raises(ValueError, match="not made for this attention config"):
            adapter.answer(prefill, sample, attention, WANTED)
    with pytest.raises(ValueError, match="prefill of its own"):
        adapter.prefill([sample], [STREAMING, dense])


def test_history_is_of_the_context_and_each_answers_own(adapter: HuggingFaceAdapter, sample: Sample) -> None:
    configs = [
        AttentionConfig((H2O(40, 40),)),
        AttentionConfig((SnapKV(60, 8),)),
        AttentionConfig((Sink(4), H2O(40, 40))),
    ]
    prefill = adapter.prefill([sample], configs)

    shared = [adapter.answer(prefill, sample, config, WANTED) for config in configs * 2]

    alone = [ask(adapter, sample, config) for config in configs]
    assert [answer.text for answer in shared] == [answer.text for answer in alone] * 2
    assert [answer.layer_density for answer in shared] == [answer.layer_density for answer in alone] * 2


@dataclasses.dataclass(frozen=True)
class KeepsWhatTheContextLikes(Masker):
    """Learns from attention alone, without reading keys."""

    prepared_by_prefill: ClassVar[bool] = True

    def select(self, inputs: AttentionInputs, kept: torch.Tensor) -> torch.Tensor:
        if inputs.memo is None:
            return kept.masked_fill(inputs.visible, 1.0)
        liked = torch.nn.functional.pad(inputs.memo > 1, (0, inputs.key.shape[2] - inputs.memo.shape[-1]), value=True)
        return kept.masked_fill(inputs.visible & liked, 1.0)

    def observe(self, inputs: AttentionInputs, kept: torch.Tensor) -> torch.Tensor:
        if inputs.past:
            return inputs.memo  # type: ignore[no-any-return]
        drawn = attention_weights(inputs, kept).sum((0, 1, 2))
        return drawn if inputs.memo is None else inputs.memo + drawn


def test_masker_that_only_observes_sees_the_prefill(adapter: HuggingFaceAdapter, sample: Sample) -> None:
    answer = ask(adapter, sample, AttentionConfig((KeepsWhatTheContextLikes(),)))

    assert 0.05 < answer.density < 0.95


def test_empty_question_is_refused(adapter: HuggingFaceAdapter, sample: Sample) -> None:
    nothing = dataclasses.replace(sample, question="", answer_prefix="", chat=False)
    prefill = adapter.prefill([nothing])

    with pytest.raises(AdapterError, match=r"question of sample .* is empty"):
        adapter.answer(prefill, nothing, AttentionConfig(), WANTED)


def test_measuring_the_error_changes_no_answer_and_is_left_out_of_the_time(
    adapter: HuggingFaceAdapter, sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = AttentionConfig((Sink(4), Local(64)))
    measured = ask(adapter, sample, dataclasses.replace(plain, measure_error=0.5))
    assert measured.text == ask(adapter, sample, plain).text
    assert measured.attention_error is not None
    assert measured.attention_error > 0

    def takes_long(self: LayerPass, block: AttentionInputs, output: torch.Tensor) -> None:
        self.state.add_error(self.layer, torch.tensor(0.0), block.query.shape[2], seconds=1000.0)

    monkeypatch.setattr(LayerPass, "_measure_error", takes_long)
    assert ask(adapter, sample, dataclasses.replace(plain, measure_error=1.0)).seconds < -1000


def test_each_config_bears_the_time_of_its_own_notes(adapter: HuggingFaceAdapter, sample: Sample) -> None:
    dense, h2o, quest = AttentionConfig(), AttentionConfig((H2O(8, 8),)), AttentionConfig((Sink(4), Quest(24, 8)))
    prefill = adapter.prefill([sample], [dense, h2o, quest])
    notes = prefill.state.notes_s

    took = {config: adapter.answer(prefill, sample, config, WANTED).prefill_s for config in (dense, h2o, quest)}

    assert set(notes) == {H2O(8, 8), Quest(24, 8)}
    assert took[dense] == prefill.seconds > 0
    assert took[h2o] == pytest.approx(prefill.seconds + notes[H2O(8, 8)])
    assert took[quest] == pytest.approx(prefill.seconds + notes[Quest(24, 8)])


def test_a_share_of_the_passes_is_measured(adapter: HuggingFaceAdapter, sample: Sample, monkeypatch: Any) -> None:
    passes: list[int] = []
    monkeypatch.setattr(LayerPass, "_measure_error", lambda self, block, output: passes.append(self.layer))
    chain = (Sink(4), Local(64))
    prefill = adapter.prefill([sample])

    for number in range(60):
        one = dataclasses.replace(sample, sample_id=str(number))
        adapter.answer(prefill, one, AttentionConfig(chain, measure_error=0.25), WANTED)

    assert 0.15 < len(passes) / (60 * 8 * 2) < 0.35
