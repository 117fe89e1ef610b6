"""Memos are values: those of a prefill are used by many answers, so that none may change them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from hpc_bench.adapters.sparse.attention_interface import attend
from hpc_bench.adapters.sparse.state import SparseState
from hpc_bench.plugin_checks.contract import require
from hpc_bench.plugin_checks.layer_walk import TOKENS, layer_of
from hpc_bench.plugin_checks.watched import Case

__all__ = ["check_memos"]


def check_memos(case: Case) -> None:
    """ContractError if two answers from the same memos change them."""
    what = case.tensors()
    chain, before = (case.watched,), case.walk(what).state.memos
    tensors, said = [part.clone() for part in _tensors_in(before)], repr(before)
    for _ in range(2):
        state = SparseState(chain, memos=before, position=TOKENS)
        state.begin_pass(1)
        key, value = (torch.cat([part, part[:, :, :1]], 2) for part in (what.key, what.value))
        attend(layer_of(what), what.query[:, :, :1], key, value, None, what.scale, sparse_state=state)
    same = said == repr(before) and all(
        _bytes(old) == _bytes(new) for old, new in zip(tensors, _tensors_in(before), strict=True)
    )
    require(same, f"{case.name}: a memo was changed in place; read and observe must return new ones")


def _tensors_in(memo: Any) -> Iterator[Tensor]:
    """All tensors in a memo, at any depth."""
    if isinstance(memo, Tensor):
        yield memo
        return
    parts: Sequence[Any] = ()
    if isinstance(memo, Mapping):
        parts = list(memo.values())
    elif isinstance(memo, list | tuple):
        parts = memo
    elif hasattr(memo, "__dict__"):
        parts = list(vars(memo).values())
    for part in parts:
        yield from _tensors_in(part)


def _bytes(tensor: Tensor) -> bytes:
    return tensor.reshape(-1).contiguous().view(torch.uint8).numpy().tobytes()
