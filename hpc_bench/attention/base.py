"""What a masker is: given queries and keys, which keys does each query keep, and with what probability."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from hpc_bench.files import file_digest

if TYPE_CHECKING:
    from torch import Tensor

    from hpc_bench.attention.model_shape import ModelShape
    from hpc_bench.values import Json

__all__ = ["BUDGET", "SIZE", "AttentionConfig", "AttentionInputs", "Chain", "Masker", "check_size", "keys_of_size"]

SIZE = "int: tokens; float: share of the keys that a query sees."
"""The meaning of a parameter that `check_size` and `keys_of_size` read."""
BUDGET = f"{SIZE} Comes on top of what earlier maskers kept."
"""The same, for a masker that counts only the keys that it adds."""


@dataclass(frozen=True)
class AttentionInputs:
    """What one attention layer sees of a pass: some of its queries, all keys; positions are encoded already (RoPE).

    A pass is one forward call: the context's prefill, a question, or one token of an answer. Long passes come in
    blocks of queries, so that no [heads, queries, keys] tensor grows with the question.
    """

    query: Tensor
    """[batch, heads, queries, head_dim]"""
    key: Tensor
    """[batch, kv_heads, keys, head_dim], not repeated; heads is a multiple of kv_heads"""
    visible: Tensor
    """bool [batch or 1, 1, queries, keys]: causal, not padding, inside the layer's own window if it has one"""
    scaling: float
    layer: int
    past: int
    """How many of the keys were there before this pass; the keys behind them are the pass's own."""
    first: int
    """Index among the keys of the first query's own key; the other queries follow."""
    offset: int = 0
    """Position in the text of key 0: how many earlier keys a sliding window's cache has forgotten."""
    softcap: float | None = None
    """Scores are capped to softcap x tanh(score / softcap), where the model does so."""
    memo: Any = None
    """What the masker noted in this layer so far (see `read` and `observe`)."""


@dataclass(frozen=True)
class Masker(ABC):
    """A sparse attention building block; the dataclass fields are its parameters in a sweep.

    Subclasses are frozen dataclasses, import torch only inside their methods (planning loads them), and check their
    parameters in `__post_init__` with a ValueError that says what is allowed. In a sweep `{name: value}` sets the
    first field, `{name: {field: value, ...}}` any of them. Most maskers need `select` alone.
    """

    samples: ClassVar[bool] = False
    """Whether keys are drawn at random, so that kept probabilities lie between 0 and 1; it has a field `seed` then."""
    prepared_by_prefill: ClassVar[bool] = False
    """Whether it learns from the context's prefill (and keeps everything until that has ended)."""
    source: ClassVar[str] = ""
    """The paper or code that it implements, for `hpc-bench attention list`."""

    @abstractmethod
    def select(self, inputs: AttentionInputs, kept: Tensor) -> Tensor:
        """Adds to what earlier maskers of the chain kept.

        `kept` and the result: float32 [batch or 1, heads or 1, queries, keys], the probability with which each key
        was kept: 0 dropped, 1 kept for sure, p for a key that was sampled with probability p. A masker keeps only
        visible keys and never lowers what is kept already.
        """

    def read(self, inputs: AttentionInputs) -> Any:
        """The new memo, once a pass and before `select`; `inputs` holds all queries of the pass.

        Called in the prefill too, and from then on in every pass of every answer. Memos are values: make new tensors,
        since the memo after a prefill serves many answers. They are cut as the keys are: what a memo holds for each
        key must be looked up from the end (`past` keys were there before), because sliding windows forget.
        """
        return inputs.memo

    def observe(self, inputs: AttentionInputs, kept: Tensor) -> Any:  # noqa: ARG002
        """The new memo, once a block and after the whole chain's selection `kept`; everything, in a dense prefill."""
        return inputs.memo

    @property
    def takes_notes(self) -> bool:
        """Whether it looks on in the context's prefill."""
        return type(self).read is not Masker.read or type(self).observe is not Masker.observe

    def check_model(self, shape: ModelShape) -> None:  # noqa: ARG002
        """ValueError if the masker, or a file that it names, does not fit a model of this shape."""
        return

    @property
    def files(self) -> dict[str, str]:
        """The fields that name files (`field(metadata={"file": True})`), and their values."""
        named = (field.name for field in dataclasses.fields(self) if field.metadata.get("file"))
        return {name: getattr(self, name) for name in named}

    def identity(self) -> dict[str, Json]:
        """All that decides what is kept, for the fingerprint: the parameters, with each file's sha256 for its path."""
        digests = {name: file_digest(Path(path).expanduser()) for name, path in self.files.items()}
        return {**dataclasses.asdict(self), **digests}


Chain: TypeAlias = tuple[Masker, ...]
"""Maskers applied in order; the empty chain is dense attention."""


@dataclass(frozen=True)
class AttentionConfig:
    """A sparse attention config: a chain of maskers, and where it acts."""

    chain: Chain = ()
    sparse_prefill: bool = False
    """Apply the chain in the context's prefill too, instead of on question and answer alone."""
    measure_error: float = 0.0
    """The share of the passes of each answer in which the output is compared with dense attention's."""

    def __post_init__(self) -> None:
        sampling = [type(masker).__name__ for masker in self.chain if masker.samples]
        if len(sampling) > 1:
            raise ValueError(f"has {len(sampling)} sampling maskers ({', '.join(sampling)}); a chain may have one")
        if sampling and not self.chain[-1].samples:
            # What a later masker keeps would depend on what was drawn, and the weights would no longer be right.
            raise ValueError(f"goes on behind {sampling[0]}; a sampling masker must be the last of its chain")
        if not 0 <= self.measure_error <= 1:
            raise ValueError("measure_error must be a share of the passes in [0.0, 1.0]")
        if (self.sparse_prefill or self.measure_error) and not self.chain:
            raise ValueError("sparse_prefill and measure_error have no meaning without maskers")
        late = [type(masker).__name__ for masker in self.chain if masker.prepared_by_prefill]
        if self.sparse_prefill and late:
            raise ValueError(f"sparse_prefill cannot be true with {late[0]}, which learns from a dense prefill")


def check_size(name: str, size: int | float) -> None:
    """ValueError unless `size` is a count of tokens (int of at least 1) or a share of the keys (float in (0, 1])."""
    fits = size >= 1 if isinstance(size, int) else 0 < size <= 1
    if not fits:
        raise ValueError(f"{name} must be a number of tokens (1, 2, ...) or a share of the keys in (0.0, 1.0]")


def keys_of_size(size: int | float, candidates: Tensor) -> Tensor:
    """How many keys `size` means for each query, given `candidates`, the number of keys that it sees; at least 1.

    A share is rounded to the nearest whole number, so that it does not depend on float noise (0.29 x 100 is 29).
    Shape and dtype of `candidates` (int64).
    """
    if isinstance(size, int):
        return candidates.new_full(candidates.shape, size)
    return (candidates.double() * size + 0.5).floor().long().clamp(min=1)
