"""What a prompt above max_context_length loses, and that this depends on each question alone."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from hpc_bench.adapters.base import kept_tokens
from hpc_bench.adapters.huggingface import HuggingFaceAdapter
from hpc_bench.adapters.prompt import Prompts
from hpc_bench.attention.base import AttentionConfig
from hpc_bench.values import Generation, ModelOptions, Sample, Truncation
from tests.support.places import TINY

CONTEXT = "The old farmer walked near the river. In the morning a teacher bought the green book."
QUESTION = " Who walked near the river?"
BOS = 1
"""Special tokens that the demo tokenizer puts in front."""
TEMPLATE = "{{ bos_token }}{% for m in messages %}[{{ m.role }}] {{ m.content }} [/]{% endfor %}[assistant]"


@pytest.fixture(params=[None, TEMPLATE], ids=["plain", "template"])
def tokenizer(request: pytest.FixtureRequest) -> Any:
    made = AutoTokenizer.from_pretrained(TINY)
    made.chat_template = request.param
    return made


def sample(question: str = QUESTION, **kwargs: Any) -> Sample:
    return dataclasses.replace(Sample("s", CONTEXT, question, ("the farmer",), max_new_tokens=4), **kwargs)


# Front and end of a context of 20 tokens, kept beside a question of 4.
BY_HAND: list[tuple[Truncation, int, tuple[int, int]]] = [
    ("middle", 24, (20, 0)),  # all of it fits
    ("middle", 23, (11, 8)),
    ("middle", 10, (5, 1)),
    ("middle", 7, (3, 0)),  # the question is all of the prompt's last half
    ("middle", 6, (2, 0)),  # and more than that
    ("left", 23, (0, 19)),
    ("left", 10, (0, 6)),
    ("left", 4, (0, 0)),
    ("right", 23, (19, 0)),
    ("right", 10, (6, 0)),
    ("right", 1, (0, 0)),
]


@pytest.mark.parametrize(("truncation", "limit", "kept"), BY_HAND)
def test_kept_tokens_by_hand(truncation: Truncation, limit: int, kept: tuple[int, int]) -> None:
    assert kept_tokens(20, 4, limit, truncation) == kept


@pytest.mark.parametrize(
    ("truncation", "limit", "kept"),
    [
        ("middle", 26, (20, 0)),
        ("middle", 25, (10, 9)),  # 2 special tokens and 10 in front; 9 and the question behind
        ("middle", 10, (3, 1)),
        ("middle", 7, (1, 0)),
        ("middle", 6, (0, 0)),
        ("left", 10, (0, 4)),
        ("right", 10, (4, 0)),
    ],
)
def test_special_tokens_in_front_take_room_of_the_first_half(
    truncation: Truncation, limit: int, kept: tuple[int, int]
) -> None:
    assert kept_tokens(20, 4, limit, truncation, special=2) == kept


@given(
    context=st.integers(0, 200),
    question=st.integers(0, 200),
    limit=st.integers(1, 300),
    truncation=st.sampled_from(["middle", "left", "right"]),
    special=st.integers(0, 3),
)
def test_nothing_is_kept_twice_and_no_room_is_left(
    context: int, question: int, limit: int, truncation: Truncation, special: int
) -> None:
    front, back = kept_tokens(context, question, limit, truncation, special)

    assert min(front, back) >= 0
    assert front + back == min(context, max(0, limit - question - special))


def test_middle_keeps_the_first_and_the_last_half_of_the_whole_prompt() -> None:
    """As LongBench/pred.py slices the prompt's tokens, for every even limit whose last half holds the question."""
    special, context, question = list(range(2)), list(range(2, 52)), list(range(52, 60))
    prompt = special + context + question
    for limit in range(16, 60, 2):
        front, back = kept_tokens(len(context), len(question), limit, "middle", len(special))

        half = limit // 2
        kept = [*special, *context[:front], *context[len(context) - back :], *question]
        assert kept == prompt[:half] + prompt[-half:]


def test_middle_keeps_the_odd_token_behind() -> None:
    """As InfiniteBench/src/eval_utils.py slices an odd limit."""
    context, question = list(range(50)), list(range(50, 58))
    prompt = context + question
    for limit in range(17, 58, 2):
        front, back = kept_tokens(len(context), len(question), limit, "middle")

        kept = [*context[:front], *context[len(context) - back :], *question]
        assert kept == prompt[: limit // 2] + prompt[-(limit // 2) - 1 :]


@pytest.mark.parametrize("truncation", ["middle", "left", "right"])
def test_context_is_cut_to_what_the_question_leaves(tokenizer: Any, truncation: Truncation) -> None:
    prompts = Prompts(tokenizer)
    context, question = prompts.encode(CONTEXT), len(prompts.encode(QUESTION))
    kept = 9
    limit = BOS + kept + question
    front = {"middle": limit // 2 - BOS, "left": 0, "right": kept}[truncation]
    expected = tokenizer.decode(context[:front]) + tokenizer.decode(context[len(context) - (kept - front) :])

    cut = prompts.cut(sample(), limit, truncation)

    assert cut == sample(context=expected, cut_tokens=len(context) - kept)


# The context has 18 tokens (one a word, and the two points), the questions have 9 and 5; with the BOS they leave 11 and
# 15 of 21. In front of the middle are the BOS and 9 tokens.
CUT_TO_21: list[tuple[str, Truncation, str, int]] = [
    (QUESTION, "middle", "The old farmer walked near the river. In book.", 7),
    (QUESTION, "left", ". In the morning a teacher bought the green book.", 7),
    (QUESTION, "right", "The old farmer walked near the river. In the morning", 7),
    (" Who?", "middle", "The old farmer walked near the river. In teacher bought the green book.", 3),
    (" Who?", "left", " walked near the river. In the morning a teacher bought the green book.", 3),
    (" Who?", "right", "The old farmer walked near the river. In the morning a teacher bought the", 3),
]


@pytest.mark.parametrize(("question", "truncation", "context", "cut_tokens"), CUT_TO_21)
def test_two_questions_cut_one_context_by_hand(
    tokenizer: Any, question: str, truncation: Truncation, context: str, cut_tokens: int
) -> None:
    cut = Prompts(tokenizer).cut(sample(question), 21, truncation)

    assert cut == sample(question, context=context, cut_tokens=cut_tokens)


def test_prompt_that_fits_is_left_as_it_is(tokenizer: Any) -> None:
    prompts = Prompts(tokenizer)
    length = BOS + len(prompts.encode(CONTEXT)) + len(prompts.encode(QUESTION))

    assert prompts.cut(sample(), length, "middle") == sample()
    assert prompts.cut(sample(), length - 1, "middle").cut_tokens == 1
    assert prompts.cut(sample(context=""), 1, "middle") == sample(context="")


def test_question_is_never_cut(tokenizer: Any) -> None:
    prompts = Prompts(tokenizer)

    cut = prompts.cut(sample(), 1, "middle")

    assert (cut.context, cut.question) == ("", QUESTION)
    assert cut.cut_tokens == len(prompts.encode(CONTEXT))


def test_answer_prefix_counts_and_stands_behind_what_was_cut(tokenizer: Any) -> None:
    """As in LongBench/pred.py, whose prompts end with the prefix; the template goes around what was kept."""
    prompts = Prompts(tokenizer)
    cut = prompts.cut(sample(answer_prefix=" It was"), 16, "right")

    ids = prompts.prompt(cut).ids

    inside = f"{cut.context}{QUESTION}"
    framed = f"[user] {inside} [/][assistant]" if tokenizer.chat_template else inside
    assert tokenizer.decode(ids) == f"<|bos|>{framed} It was"
    assert BOS + len(prompts.encode(cut.context)) + len(prompts.encode(f"{QUESTION} It was")) == 16


@pytest.mark.parametrize("truncation", ["middle", "left", "right"])
def test_tokenizer_without_special_tokens_keeps_one_more(tokenizer: Any, truncation: Truncation) -> None:
    with_bos = Prompts(tokenizer).cut(sample(), 20, truncation)
    tokenizer._tokenizer.post_processor = type(tokenizer._tokenizer.post_processor)(single="$A", special_tokens=[])

    assert Prompts(tokenizer).cut(sample(), 20, truncation).cut_tokens == with_bos.cut_tokens - 1


def test_answer_tells_what_was_cut() -> None:
    adapter = HuggingFaceAdapter.load(ModelOptions(str(TINY), device="cpu", model_kwargs={"dtype": "float32"}))
    cut = adapter.cut(sample(), 16, "middle")

    answer = adapter.answer(adapter.prefill([cut]), cut, AttentionConfig(), Generation())

    assert answer.cut_tokens == BOS + adapter.count_tokens(CONTEXT) + adapter.count_tokens(QUESTION) - 16
    assert answer.tokens_in == 16


# enable_thinking, which a template may use

THINKING = TEMPLATE + "{% if enable_thinking is defined and enable_thinking is false %}<think></think>{% endif %}"


@pytest.mark.parametrize(("thinking", "tail"), [(None, ""), (True, ""), (False, "<think></think>")])
def test_template_is_told_whether_to_think(thinking: bool | None, tail: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(TINY)
    tokenizer.chat_template = THINKING

    prompt = Prompts(tokenizer, thinking).prompt(sample(" Who?"))

    assert prompt.ids[prompt.seam :] == Prompts(tokenizer).encode(f" Who? [/][assistant]{tail}")


@pytest.mark.parametrize("thinking", [True, False])
def test_template_that_knows_no_thinking_stays_as_it_is(tokenizer: Any, thinking: bool) -> None:
    plain, told = Prompts(tokenizer), Prompts(tokenizer, thinking)

    assert told.prompt(sample()) == plain.prompt(sample())
