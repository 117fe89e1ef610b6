from importlib.metadata import entry_points

import pytest
import torch
from hpc_bench_strided import Strided

from hpc_bench.plugin import AttentionInputs
from hpc_bench.plugin_checks import check_masker


def inputs(visible: torch.Tensor) -> AttentionInputs:
    queries, keys = visible.shape[-2:]
    query, key = torch.zeros(1, 4, queries, 8), torch.zeros(1, 2, keys, 8)
    return AttentionInputs(query, key, visible, scaling=1.0, layer=0, past=keys - queries, first=keys - queries)


def test_contract_of_maskers_is_kept() -> None:
    check_masker(Strided(stride=3), everything=Strided(stride=1))


def test_name_leads_to_the_masker() -> None:
    assert entry_points(group="hpc_bench.maskers")["strided"].load() is Strided


def test_every_third_key_is_kept() -> None:
    seen = inputs(torch.ones(1, 1, 1, 8, dtype=torch.bool))

    kept = Strided(stride=3).select(seen, torch.zeros(1, 1, 1, 8))

    assert kept[0, 0, 0].tolist() == [1, 0, 0, 1, 0, 0, 1, 0]


def test_hidden_keys_are_skipped_and_never_kept() -> None:
    seen = inputs(torch.tensor([False, False, True, True, True, True])[None, None, None])

    kept = Strided(stride=2).select(seen, torch.zeros(1, 1, 1, 6))

    assert kept[0, 0, 0].tolist() == [0, 0, 1, 0, 1, 0]


def test_stride_of_one_keeps_everything_and_earlier_maskers_are_heeded() -> None:
    seen = inputs(torch.ones(1, 1, 2, 4, dtype=torch.bool).tril(2))
    before = torch.tensor([0.0, 1.0, 0.0, 0.0])[None, None, None].expand(1, 1, 2, 4)

    everything, some = (Strided(stride).select(seen, before) for stride in (1, 4))

    assert torch.equal(everything, seen.visible.float())
    assert some[0, 0, 1].tolist() == [1, 1, 0, 0]


def test_wrong_stride_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Strided(stride=0)
