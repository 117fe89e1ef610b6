"""Generated prompts are as long as their subset says, with the answer, for tokenizers with any chat template."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from hpc_bench.adapters.base import AdapterError
from hpc_bench.adapters.huggingface import HuggingFaceAdapter
from hpc_bench.adapters.prompt import Prompts
from hpc_bench.attention.base import AttentionConfig
from hpc_bench.benchmarks.base import Benchmark, PromptTokens, prompt_tokens
from hpc_bench.benchmarks.generated.ruler import TASKS
from hpc_bench.benchmarks.suites.needle import Needle
from hpc_bench.benchmarks.suites.ruler import Ruler
from hpc_bench.errors import PluginError
from hpc_bench.values import Generation, ModelOptions, Sample
from tests.support.places import TINY
from tests.support.ruler_sources import RulerMaker, write_sources

NO_ROOM = {
    0: {"niah_multiquery"},
    25: {"niah_multivalue", "niah_multiquery"},
    40: {"niah_multikey_1", "niah_multikey_3", "niah_multivalue", "niah_multiquery", "cwe"},
    100: {*(task for task in TASKS if task.startswith("niah")), "cwe"},
}
"""Tokens of the chat template -> tasks that 256 tokens cannot hold beside it: niah and cwe keep 120 to the answer."""


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> RulerMaker:
    return RulerMaker(**write_sources(tmp_path_factory.mktemp("sources")))


def template(size: int) -> str | None:
    """With so many words around the message."""
    return f"{'the ' * (size // 2)}{{{{ messages[0].content }}}}{' the' * (size - size // 2)}" if size else None


def word_tokenizer() -> Any:
    """A token is a word or six letters of one, about as in a large model; none is special."""
    made = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Split(Regex(r"\w{1,6}|\S"), "removed", invert=True)
    return PreTrainedTokenizerFast(tokenizer_object=made)


def counted(tokenizer: Any) -> PromptTokens:
    prompts = Prompts(tokenizer)

    def prompt(sample: Sample) -> int:
        return len(prompts.prompt(sample).ids)

    return PromptTokens(lambda text: len(prompts.encode(text)), prompt)


@pytest.mark.parametrize("length", [256, 512, 1024, 8192])
@pytest.mark.parametrize("size", [0, 25, 40, 100])
def test_generated_ruler_is_as_long_as_its_subset_says(make: RulerMaker, size: int, length: int) -> None:
    tokenizer = word_tokenizer()
    tokenizer.chat_template = template(size)
    tokens = counted(tokenizer)

    for task in TASKS:
        if length == 256 and task in NO_ROOM[size]:
            with pytest.raises(PluginError, match=f"256 tokens are too few for {task}.* and {size} for .*template"):
                make(f"256_{task}", tokens=tokens)
            continue
        lengths = [tokens.prompt(sample) + sample.max_new_tokens for sample in make(f"{length}_{task}", tokens=tokens)]
        assert 0.98 * length <= min(lengths) <= max(lengths) <= length, task


@pytest.mark.parametrize("length", [128, 256, 512, 2048])
@pytest.mark.parametrize("size", [0, 25, 40])
def test_needle_is_as_long_as_its_subset_says(size: int, length: int) -> None:
    tokenizer = AutoTokenizer.from_pretrained(TINY)
    tokenizer.chat_template = template(size)
    tokens = counted(tokenizer)

    samples = list(Needle(samples=8).load(str(length), tokens))

    lengths = [tokens.prompt(sample) + sample.max_new_tokens for sample in samples]
    assert length - 12 <= min(lengths)  # a short sentence and the difference of two questions
    assert max(lengths) <= length


def test_template_that_leaves_no_room_for_a_needle_is_an_error() -> None:
    tokenizer = AutoTokenizer.from_pretrained(TINY)
    tokenizer.chat_template = template(100)

    with pytest.raises(PluginError, match=r"128 tokens hold no needle .*choose a longer subset"):
        list(Needle().load("128", counted(tokenizer)))


def test_count_that_knows_no_prompts_adds_up_their_parts() -> None:
    sample = Sample("s", "abc", "de", ("f",), max_new_tokens=4, answer_prefix="g")

    assert prompt_tokens(len, sample) == 6


@pytest.mark.parametrize("chat", [True, False])
@pytest.mark.parametrize("size", [0, 25])
def test_adapter_counts_the_prompt_that_it_asks(chat: bool, size: int) -> None:
    adapter = small_adapter(TINY)
    adapter._tokenizer.chat_template = template(size)
    sample = Sample("s", "The old map.", " Who?", ("f",), 4, answer_prefix=" It is", chat=chat)

    answer = adapter.answer(adapter.prefill([sample]), sample, AttentionConfig(), Generation())

    assert adapter.tokens.prompt(sample) == answer.tokens_in
    assert adapter.tokens(" It is") == adapter.count_tokens(" It is")


@pytest.mark.parametrize(
    ("benchmark", "subset"), [(Needle(samples=4), "256"), (Ruler(source="generate", samples=2), "512_vt")]
)
def test_model_with_exactly_as_many_positions_is_asked(tmp_path: Path, benchmark: Benchmark, subset: str) -> None:
    positions = int(subset.partition("_")[0])
    shutil.copytree(TINY, tmp_path / "model")
    edit(tmp_path / "model" / "config.json", max_position_embeddings=positions)
    edit(tmp_path / "model" / "tokenizer_config.json", chat_template=template(30))
    adapter = small_adapter(tmp_path / "model")

    for sample in benchmark.load(subset, adapter.tokens):
        read = adapter.prefill([sample])
        answer = adapter.answer(read, sample, AttentionConfig(), Generation(max_new_tokens=sample.max_new_tokens))
        assert 0.95 * positions <= answer.tokens_in + sample.max_new_tokens <= positions
    with pytest.raises(AdapterError, match=f"{positions} positions"):
        adapter.answer(read, sample, AttentionConfig(), Generation(max_new_tokens=60, override_limits=True))


def small_adapter(folder: Path) -> HuggingFaceAdapter:
    return HuggingFaceAdapter.load(ModelOptions(str(folder), device="cpu", model_kwargs={"dtype": "float32"}))


def edit(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
