"""Models that think first: where their prompt ends, what is kept of what they write, and what of it is scored."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer

from hpc_bench.adapters.huggingface import HuggingFaceAdapter
from hpc_bench.adapters.prompt import Prompts
from hpc_bench.attention.base import AttentionConfig
from hpc_bench.benchmarks.scoring import final_answer
from hpc_bench.values import Answer, Generation, ModelOptions, Sample
from tests.support.places import TINY

TURNS = (
    "{{ bos_token }}{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
)
# A switch that closes the thought at once, as Qwen3's template has; and a thought that is opened, as by DeepSeek-R1's.
SWITCH = (
    TURNS
    + "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
OPENED = TURNS + "<think>\n{% endif %}"
SAMPLE = Sample("s", "The old map.", " Who?\n", ("12",), max_new_tokens=40, answer_prefix="Answer:")
ASSISTANT = "<|im_end|>\n<|im_start|>assistant\n"


def prompt_of(template: str | None, thinking: bool | None, sample: Sample = SAMPLE) -> str:
    """Behind the context."""
    tokenizer = AutoTokenizer.from_pretrained(TINY)
    tokenizer.chat_template = template
    prompt = Prompts(tokenizer, thinking).prompt(sample)
    return str(tokenizer.decode(prompt.ids[prompt.seam :]))


@pytest.mark.parametrize(
    ("template", "thinking", "prompt"),
    [
        (SWITCH, None, f" Who?\n{ASSISTANT}Answer:"),
        (SWITCH, False, f" Who?\n{ASSISTANT}<think>\n\n</think>\n\nAnswer:"),
        (SWITCH, True, f" Who?\nAnswer:{ASSISTANT}"),
        (OPENED, None, f" Who?\nAnswer:{ASSISTANT}<think>\n"),
        (OPENED, False, f" Who?\nAnswer:{ASSISTANT}<think>\n"),
        (OPENED.replace("<think>\n", "<think>"), None, f" Who?\nAnswer:{ASSISTANT}<think>"),
        (OPENED.replace("<think>", "<think> x"), None, f" Who?\n{ASSISTANT}<think> x\nAnswer:"),
        ("{{ messages[0].content + '\\n' }}", None, " Who?\n\nAnswer:"),
        (None, True, " Who?\nAnswer:"),
    ],
)
def test_answer_prefix_leaves_room_for_a_thought(template: str | None, thinking: bool | None, prompt: str) -> None:
    assert prompt_of(template, thinking) == prompt


@pytest.mark.parametrize("thinking", [None, True])
def test_sample_without_chat_thinks_of_no_template(thinking: bool | None) -> None:
    assert prompt_of(OPENED, thinking, dataclasses.replace(SAMPLE, chat=False)) == " Who?\nAnswer:"


class Saying(HuggingFaceAdapter):
    """Writes a given text, whatever the model thinks of it."""

    said: Iterator[int] = iter(())

    def _forward(self, cache: Any, sparse: Any, ids: list[int]) -> torch.Tensor:
        logits = super()._forward(cache, sparse, ids)
        return torch.nn.functional.one_hot(torch.tensor([next(self.said, 1)]), logits.shape[-1]).float()


@pytest.fixture(scope="module")
def model() -> HuggingFaceAdapter:
    return HuggingFaceAdapter.load(ModelOptions(str(TINY), device="cpu", model_kwargs={"dtype": "float32"}))


def written(model: HuggingFaceAdapter, template: str, text: str, sample: Sample = SAMPLE) -> Answer:
    tokenizer = AutoTokenizer.from_pretrained(TINY)
    tokenizer.chat_template = template
    adapter = Saying(model._model, tokenizer, ModelOptions(str(TINY)))
    read = adapter.prefill([sample])
    adapter.said = iter(tokenizer(text, add_special_tokens=False)["input_ids"])
    return adapter.answer(read, sample, AttentionConfig(), Generation())


@pytest.mark.parametrize(
    ("template", "text", "kept", "answer"),
    [
        (OPENED, "maybe 13</think> 12", "<think>\nmaybe 13</think> 12", " 12"),
        (OPENED, "maybe 12", "<think>\nmaybe 12", ""),
        (OPENED, "", "<think>\n", ""),
        (SWITCH, "<think> maybe 13</think> 12", "<think> maybe 13</think> 12", " 12"),
        (SWITCH, "<think> maybe 12", "<think> maybe 12", ""),
        (SWITCH, " 12", " 12", " 12"),
        ("{{ messages[0].content + '\\n' }}", " 12", " 12", " 12"),
    ],
)
def test_kept_text_tells_thoughts_from_the_answer(
    model: HuggingFaceAdapter, template: str, text: str, kept: str, answer: str
) -> None:
    assert written(model, template, text).text == kept
    assert final_answer(kept) == answer


def test_opening_tag_is_no_token_of_the_answer_and_no_stop_string(model: HuggingFaceAdapter) -> None:
    stopping = dataclasses.replace(SAMPLE, stop_strings=("\n",))

    answer = written(model, OPENED, "</think> green\n book", stopping)

    assert answer.text == "<think>\n</think> green"
    assert answer.tokens_out == written(model, SWITCH, "</think> green\n book", stopping).tokens_out


def test_sample_without_chat_is_kept_as_written(model: HuggingFaceAdapter) -> None:
    assert written(model, OPENED, " 12", dataclasses.replace(SAMPLE, chat=False)).text == " 12"


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("", ""),
        (" 12 \n", " 12 \n"),
        ("<think>a</think> b", " b"),
        ("a</think>b</think>c", "c"),
        ("a</think>", ""),
        ("<think>\nmaybe 12 or 13", ""),
        ("<think>", ""),
        ("<think>a</think> 12 <think>or 13", " 12 "),  # said before it thought again
        ("<think>a</think><think>b", ""),
        ("<think>a<think>b</think>c", "c"),
        ("12 <think>or 13", "12 "),
    ],
)
def test_final_answer_stands_outside_of_thoughts(text: str, answer: str) -> None:
    assert final_answer(text) == answer


@pytest.mark.parametrize("unit", ["<think>", "</think>", "<think></think>", "</think><think>", "<"])
def test_a_megabyte_of_tags_is_read_at_once(unit: str) -> None:
    text = unit * (1_000_000 // len(unit))

    started = time.process_time()
    final_answer(text)

    assert time.process_time() - started < 0.1
