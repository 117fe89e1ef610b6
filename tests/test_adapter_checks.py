"""The contract check for adapters can fail, and its message says what is violated."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, ClassVar

import pytest

import hpc_bench
from hpc_bench.adapters.huggingface import HuggingFaceAdapter
from hpc_bench.adapters.scripted import ScriptedAdapter
from hpc_bench.plugin import (
    AdapterError,
    Answer,
    AttentionConfig,
    Generation,
    ModelOptions,
    Prefill,
    Sample,
    Truncation,
)
from hpc_bench.plugin_checks import ContractError, check_adapter

DEMO = Path(hpc_bench.__file__).parent / "demo" / "tiny-2l"


class Forgetful(ScriptedAdapter):
    """Answers differently the second time."""

    def answer(self, prefill: Prefill, sample: Sample, attention: AttentionConfig, generation: Generation) -> Answer:
        answer = super().answer(prefill, sample, attention, generation)
        return dataclasses.replace(answer, text=f"{answer.text}, no. {self._answers}")


class Careless(ScriptedAdapter):
    """What it does not heed is a class variable."""

    wrong: ClassVar[dict[str, Any]] = {}

    def answer(self, prefill: Prefill, sample: Sample, attention: AttentionConfig, generation: Generation) -> Answer:
        return dataclasses.replace(super().answer(prefill, sample, attention, generation), **self.wrong)


class Sparse(ScriptedAdapter):
    """Changes its answer where a masker is there, even if that keeps everything."""

    def answer(self, prefill: Prefill, sample: Sample, attention: AttentionConfig, generation: Generation) -> Answer:
        answer = super().answer(prefill, sample, attention, generation)
        return dataclasses.replace(answer, text="sparse" if attention.chain else answer.text)


class Dense(Sparse):
    """Has no sparse attention, and says so."""

    def check_attention(self, attention: AttentionConfig) -> None:
        if attention.chain:
            raise AdapterError("no sparse attention")


class Cutting(ScriptedAdapter):
    """Cuts at the wrong side."""

    def cut(self, sample: Sample, limit: int, truncation: Truncation) -> Sample:
        return super().cut(sample, limit, "left")


class Uncut(ScriptedAdapter):
    """Cuts nothing."""

    def cut(self, sample: Sample, limit: int, truncation: Truncation) -> Sample:
        return sample


class Framing(ScriptedAdapter):
    """Counts special tokens with each text."""

    def count_tokens(self, text: str) -> int:
        return 2 + super().count_tokens(text)


class Secretive(ScriptedAdapter):
    """Says of itself what JSON cannot hold."""

    def provenance(self) -> dict[str, Any]:
        return {"device": object()}


@pytest.mark.parametrize("cls", [ScriptedAdapter, Dense])
def test_adapter_that_keeps_the_contract_passes(cls: type[ScriptedAdapter]) -> None:
    check_adapter(cls, ModelOptions("org/scripted"))


@pytest.mark.parametrize(
    ("cls", "violation"),
    [
        (Forgetful, "after another question, the same prefill gives"),
        (Sparse, "keeps every key gives the answer 'sparse'"),
        (Cutting, r"cut \(middle\): the beginning of the context must be kept"),
        (Uncut, "cut_tokens must say how many tokens"),
        (Framing, "counts 2 tokens of an empty text"),
        (Secretive, "provenance must be plain JSON"),
    ],
)
def test_broken_adapter_is_found(cls: type[ScriptedAdapter], violation: str) -> None:
    with pytest.raises(ContractError, match=violation):
        check_adapter(cls, ModelOptions("org/scripted"))


@pytest.mark.parametrize(
    ("wrong", "violation"),
    [
        ({"tokens_in": 1}, "tokens_in is 1, but prompt_tokens counts"),
        ({"tokens_out": 9}, "tokens_out is 9, and the sample's max_new_tokens 8"),
        ({"tokens_out": 2}, "the answer has 2 tokens, and max_new_tokens is 1"),
        ({"cut_tokens": 1}, "cut_tokens of the answer must be the sample's"),
        ({"density": 0.5}, "dense attention has density 1.0, not 0.5"),
        ({"seconds": -1.0}, "cannot be negative"),
    ],
)
def test_answer_that_says_something_wrong_is_found(
    monkeypatch: pytest.MonkeyPatch, wrong: dict[str, Any], violation: str
) -> None:
    monkeypatch.setattr(Careless, "wrong", wrong)

    with pytest.raises(ContractError, match=violation):
        check_adapter(Careless, ModelOptions("org/scripted"))


def test_models_of_transformers_keep_the_contract() -> None:
    check_adapter(HuggingFaceAdapter, ModelOptions(str(DEMO), device="cpu", model_kwargs={"dtype": "float32"}))
