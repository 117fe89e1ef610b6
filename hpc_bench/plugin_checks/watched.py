"""A masker on one attention layer, with everything that it returns checked against the contract of `Masker`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hpc_bench.attention.base import AttentionInputs, Chain, Masker
from hpc_bench.attention.model_shape import ModelShape
from hpc_bench.plugin_checks.contract import require
from hpc_bench.plugin_checks.layer_walk import PLAIN, TOKENS, Course, Tensors, Walk, random_tensors, walk

__all__ = ["Case", "Watched"]


@dataclass(frozen=True)
class Case:
    """A masker on an attention layer of some shape."""

    masker: Masker
    shape: ModelShape

    @property
    def name(self) -> str:
        """How messages name it."""
        return f"{type(self.masker).__name__} ({self.shape.heads} heads, {self.shape.kv_heads} key heads)"

    @property
    def watched(self) -> Watched:
        """The masker, checked at every call."""
        return Watched(self.masker, self.name)

    def tensors(self, batch: int = 1, tokens: int = TOKENS, seed: int = 0) -> Tensors:
        """Random ones of the shape."""
        return random_tensors(self.shape, batch, tokens, seed)

    def walk(self, what: Tensors, course: Course = PLAIN, before: Chain = ()) -> Walk:
        """What the masker does after others, checked at every call."""
        return walk((*before, self.watched), what, course)


@dataclass(frozen=True)
class Watched(Masker):
    """Does what `masker` does; ContractError, beginning with `name`, if that violates the contract."""

    masker: Masker
    name: str

    def __post_init__(self) -> None:
        for fact in ("samples", "prepared_by_prefill"):
            object.__setattr__(self, fact, getattr(self.masker, fact))

    def read(self, inputs: AttentionInputs) -> Any:
        """The masker's own memo."""
        with self._unchanged("read", query=inputs.query, key=inputs.key):
            return self.masker.read(inputs)

    def observe(self, inputs: AttentionInputs, kept: Tensor) -> Any:
        """The masker's own memo."""
        with self._unchanged("observe", query=inputs.query, key=inputs.key, kept=kept):
            return self.masker.observe(inputs, kept)

    def select(self, inputs: AttentionInputs, kept: Tensor) -> Tensor:
        """The masker's own selection."""
        with self._unchanged("select", query=inputs.query, key=inputs.key, visible=inputs.visible, kept=kept):
            made = self.masker.select(inputs, kept)
        self._check_form(made, inputs)
        self._check_probabilities(made, inputs, kept)
        return made

    @contextmanager
    def _unchanged(self, method: str, **tensors: Tensor) -> Iterator[None]:
        before = {name: tensor.clone() for name, tensor in tensors.items()}
        yield
        changed = [name for name, tensor in tensors.items() if not torch.equal(before[name], tensor)]
        require(not changed, f"{self.name}: {method} changes {', '.join(changed)} in place; make new tensors")

    def _check_form(self, made: Tensor, inputs: AttentionInputs) -> None:
        batch, heads, queries, _ = inputs.query.shape
        keys = inputs.key.shape[2]
        is_tensor = isinstance(made, Tensor)
        fits = (
            is_tensor
            and made.dim() == 4
            and made.dtype == torch.float32
            and made.shape[0] in (1, batch)
            and made.shape[1] in (1, heads)
            and made.shape[2:] == (queries, keys)
        )
        got = f"{made.dtype} {list(made.shape)}" if is_tensor else type(made).__name__
        wanted = f"float32 [1 or {batch}, 1 or {heads}, {queries}, {keys}]"
        require(fits, f"{self.name}: select must return {wanted}, not {got}")

    def _check_probabilities(self, made: Tensor, inputs: AttentionInputs, kept: Tensor) -> None:
        low, high = float(made.min()), float(made.max())
        require(
            low >= 0 and high <= 1,  # false for NaN too
            f"{self.name}: select must return probabilities in [0, 1]; some are {low}, some {high}",
        )
        require(bool((made >= kept).all()), f"{self.name}: select lowers what earlier maskers kept")
        require(
            bool(((made == 0) | inputs.visible).all()),
            f"{self.name}: select keeps keys that the query must not see (see `inputs.visible`)",
        )
        require(
            self.masker.samples or bool(((made == 0) | (made == 1)).all()),
            f"{self.name}: select returns probabilities other than 0 and 1, so `samples` must be True",
        )
