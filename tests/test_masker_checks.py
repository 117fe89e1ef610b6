"""The contract check for maskers can fail, and its message says what is violated."""

from __future__ import annotations

import dataclasses
import random
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch

from hpc_bench.plugin import AttentionInputs, Masker, uniform
from hpc_bench.plugin_checks import ContractError, check_masker
from tests.support.broken_plugins import broken


@dataclass(frozen=True)
class Steps(Masker):
    """Keeps the contract: every third key."""

    step: int = 3

    def select(self, inputs: AttentionInputs, kept: torch.Tensor) -> torch.Tensor:
        return torch.where(inputs.visible & (indexes(inputs) % self.step == 0), 1.0, kept)


@dataclass(frozen=True)
class Draws(Masker):
    """Keeps the contract: a quarter of the keys at random."""

    samples: ClassVar[bool] = True
    rate: float = 0.25
    seed: int = 0

    def select(self, inputs: AttentionInputs, kept: torch.Tensor) -> torch.Tensor:
        return self.drawn(inputs, kept, self.rate)

    def drawn(self, inputs: AttentionInputs, kept: torch.Tensor, said: float, seed: int | None = None) -> torch.Tensor:
        drawn = uniform(inputs, self.seed if seed is None else seed, purpose=9) < self.rate
        chosen = inputs.visible & (kept == 0) & drawn
        return kept.expand(chosen.shape).masked_fill(chosen, said)


def indexes(inputs: AttentionInputs) -> torch.Tensor:
    return torch.arange(inputs.key.shape[2])


def keeps(rule: Any) -> dict[str, Any]:
    """A masker that adds what a rule says of its inputs."""
    return {"select": lambda self, inputs, kept: torch.where(rule(inputs), 1.0, kept)}


def returns(make: Any) -> dict[str, Any]:
    """A masker that changes what the good one returns."""
    return {"select": lambda self, inputs, kept: make(Steps.select(self, inputs, kept))}


def writes(method: str, part: str) -> dict[str, Any]:
    """A masker that writes into what it is given."""

    def select(self: Masker, inputs: AttentionInputs, kept: torch.Tensor) -> torch.Tensor:
        (kept if part == "kept" else getattr(inputs, part)).mul_(0.5)
        return Steps.select(self, inputs, kept)  # type: ignore[arg-type]

    def read(self: Masker, inputs: AttentionInputs) -> None:
        getattr(inputs, part).mul_(0.5)

    return {"select": select} if method == "select" else {"read": read}


def counts_in_place(self: Masker, inputs: AttentionInputs) -> list[torch.Tensor]:
    memo: list[torch.Tensor] = inputs.memo or [torch.zeros(())]
    memo[0] += 1
    return memo


def rows_of_the_block(inputs: AttentionInputs) -> torch.Tensor:
    row = torch.arange(inputs.query.shape[2])[:, None]
    return inputs.visible & ((indexes(inputs) + row) % 3 == 0)


def causal_alone(inputs: AttentionInputs) -> torch.Tensor:
    row = torch.arange(inputs.query.shape[2])[:, None]
    return (indexes(inputs) <= inputs.first + row)[None, None] & (indexes(inputs) % 3 == 0)


def nothing_hidden(inputs: AttentionInputs) -> torch.Tensor:
    return torch.ones_like(inputs.visible)


def above_the_mean(inputs: AttentionInputs) -> torch.Tensor:
    size = inputs.key.sum((1, 3))
    return inputs.visible & (size > size.mean())[:, None, None]


def by_chance(inputs: AttentionInputs) -> torch.Tensor:
    return inputs.visible & (torch.rand(inputs.visible.shape) < 0.5)


MASKERS: dict[str, tuple[type[Masker], dict[str, Any], str]] = {
    "future keys decide": (Steps, keeps(above_the_mean), "depend on later keys"),
    "future keys are kept": (Steps, keeps(nothing_hidden), "keeps keys that the query must not see"),
    "keys outside a window are kept": (Steps, keeps(causal_alone), "keeps keys that the query must not see"),
    "lowers": (Steps, {"select": lambda self, inputs, kept: torch.zeros_like(kept)}, "lowers what earlier maskers"),
    "above 1": (Steps, returns(lambda kept: kept * 2), r"probabilities in \[0, 1\]; some are 0.0, some 2.0"),
    "below 0": (Steps, returns(lambda kept: kept - 1), r"probabilities in \[0, 1\]; some are -1.0"),
    "no number": (Steps, returns(lambda kept: kept * torch.nan), r"probabilities in \[0, 1\]; some are nan"),
    "double": (Steps, returns(lambda kept: kept.double()), "must return float32 .*, not torch.float64"),
    "three dimensions": (Steps, returns(lambda kept: kept[0]), r"must return float32 \[1 or 1, 1 or 4, 6, 30\], not"),
    "nothing": (Steps, returns(lambda kept: None), "must return float32 .*, not NoneType"),
    "probabilities without samples": (
        Steps,
        {"select": lambda self, inputs, kept: torch.maximum(kept, Steps.select(self, inputs, kept) * 0.5)},
        "so `samples` must be True",
    ),
    "random from run to run": (Steps, keeps(by_chance), "differs from run to run"),
    "keeps everything": (Steps, keeps(lambda inputs: inputs.visible), "choose parameters that keep fewer"),
    "rows are counted by block": (Steps, keeps(rows_of_the_block), "is split into blocks of 1"),
    "writes into keys": (Steps, writes("select", "key"), "select changes key in place"),
    "writes into queries": (Steps, writes("read", "query"), "read changes query in place"),
    "writes into kept": (Steps, writes("select", "kept"), "select changes kept in place"),
    "writes into a memo": (Steps, {"read": counts_in_place}, "a memo was changed in place"),
    "prefill without notes": (Steps, {"prepared_by_prefill": True}, "it defines neither read nor observe"),
    "samples without a seed": (Steps, {"samples": True}, "which requires a field `seed`"),
    "same draw whatever the seed": (
        Draws,
        {"select": lambda self, inputs, kept: self.drawn(inputs, kept, self.rate, seed=1)},
        "draws the same keys with every seed",
    ),
    "another probability than drawn with": (
        Draws,
        {"select": lambda self, inputs, kept: self.drawn(inputs, kept, 0.5)},
        "draws are biased",
    ),
    "another model": (Steps, {"check_model": lambda self, shape: int("x")}, "check_model refuses ModelShape"),
    "identity of another time": (Steps, {"identity": lambda self: {"at": random.random()}}, "the same at every call"),
    "identity without JSON": (Steps, {"identity": lambda self: {"step": (1,)}}, "identity must be plain JSON"),
}


@pytest.mark.parametrize("masker", [Steps(), Draws()], ids=lambda masker: type(masker).__name__)
def test_masker_that_keeps_the_contract_passes(masker: Masker) -> None:
    everything = Steps(1) if isinstance(masker, Steps) else Draws(1.0)

    check_masker(masker, everything=everything)


@pytest.mark.parametrize(("cls", "changes", "violation"), MASKERS.values(), ids=MASKERS.keys())
def test_broken_masker_is_found(cls: type[Masker], changes: dict[str, Any], violation: str) -> None:
    with pytest.raises(ContractError, match=violation):
        check_masker(broken(cls, changes))


def test_keeping_everything_that_is_not_dense_is_found() -> None:
    unequal = {
        "select": lambda self, inputs, kept: inputs.visible.float() / (1 + indexes(inputs) % 3),
    }

    with pytest.raises(ContractError, match="`everything` keeps only"):
        check_masker(Steps(), everything=Steps(2))
    with pytest.raises(ContractError, match="must equal dense attention"):
        check_masker(Draws(), everything=broken(Draws, unequal))


@dataclass(frozen=True)
class Unhashable(Steps):
    """A list is no key of a mapping."""

    sizes: list[int] = dataclasses.field(default_factory=list)


def test_masker_that_cannot_be_a_key_is_found() -> None:
    with pytest.raises(ContractError, match="Unhashable must be hashable"):
        check_masker(Unhashable())
