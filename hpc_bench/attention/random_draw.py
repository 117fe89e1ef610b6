"""Random numbers that depend on a seed and on what they are for, and on nothing else: not on batch, order or device."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor

from hpc_bench.attention.base import AttentionInputs

__all__ = ["uniform"]

_MASK = 0xFFFFFFFF
_Number = TypeVar("_Number", int, Tensor)


def uniform(inputs: AttentionInputs, seed: int, purpose: int) -> Tensor:
    """float64 [1, heads, queries, keys] in [0, 1): one number for each seed, purpose, layer, head, query position and
    key position.

    An integer hash of these (lowbias32 of C. Wellons, github.com/skeeto/hash-prospector), since a generator's stream
    would depend on what was drawn before.
    """
    heads, queries, keys = inputs.query.shape[1], inputs.query.shape[2], inputs.key.shape[2]
    device = inputs.query.device
    where = 0
    for part in (seed, purpose, inputs.layer):
        where = _mix(where ^ _mix((part + 0x9E3779B9) & _MASK))
    head = _mix(where ^ _mix(torch.arange(1, heads + 1, device=device)))
    first = inputs.offset + inputs.first
    query = _mix(head[:, None] ^ _mix(torch.arange(first, first + queries, device=device)))
    key = _mix(torch.arange(inputs.offset, inputs.offset + keys, device=device) ^ 0x85EBCA6B)
    pairs: Tensor = _mix(query[..., None] ^ key)
    return (pairs.double() / 2**32)[None]


def _mix(value: _Number) -> _Number:
    """A permutation of 32-bit numbers, held in an int or an int64 tensor."""
    value = ((value ^ (value >> 16)) * 0x7FEB352D) & _MASK
    value = ((value ^ (value >> 15)) * 0x846CA68B) & _MASK
    return value ^ (value >> 16)
