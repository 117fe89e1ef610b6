import pytest
import torch

from hpc_bench import catalog
from hpc_bench.attention.base import AttentionInputs
from hpc_bench.errors import SweepError


def inputs(visible: torch.Tensor) -> AttentionInputs:
    queries, keys = visible.shape[-2:]
    query, key = torch.zeros(1, 4, queries, 8), torch.zeros(1, 2, keys, 8)
    return AttentionInputs(query, key, visible, scaling=1.0, layer=0, past=keys - queries, first=keys - queries)


def test_every_third_key_is_kept() -> None:
    seen = inputs(torch.ones(1, 1, 1, 8, dtype=torch.bool))

    kept = catalog.build("masker", "strided", {"stride": 3}).select(seen, torch.zeros(1, 1, 1, 8))

    assert kept[0, 0, 0].tolist() == [1, 0, 0, 1, 0, 0, 1, 0]


def test_hidden_keys_are_skipped_and_never_kept() -> None:
    seen = inputs(torch.tensor([False, False, True, True, True, True])[None, None, None])

    kept = catalog.build("masker", "strided", {"stride": 2}).select(seen, torch.zeros(1, 1, 1, 6))

    assert kept[0, 0, 0].tolist() == [0, 0, 1, 0, 1, 0]


def test_stride_of_one_keeps_everything_and_earlier_maskers_are_heeded() -> None:
    seen = inputs(torch.ones(1, 1, 2, 4, dtype=torch.bool).tril(2))
    before = torch.tensor([0.0, 1.0, 0.0, 0.0])[None, None, None].expand(1, 1, 2, 4)

    everything = catalog.build("masker", "strided", {"stride": 1}).select(seen, before)
    some = catalog.build("masker", "strided", {"stride": 4}).select(seen, before)

    assert torch.equal(everything, seen.visible.float())
    assert some[0, 0, 1].tolist() == [1, 1, 0, 0]


def test_wrong_stride_is_refused() -> None:
    with pytest.raises(SweepError, match="at least 1"):
        catalog.build("masker", "strided", {"stride": 0})
