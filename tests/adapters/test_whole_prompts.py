"""The ids that a model is fed are those of the whole prompt, and what is shared of them changes no answer."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import ByT5Tokenizer, LlamaConfig, LlamaForCausalLM

from hpc_bench.adapters.base import AdapterError
from hpc_bench.adapters.huggingface import HuggingFaceAdapter
from hpc_bench.adapters.prompt import Prompt, Prompts, shared_length
from hpc_bench.attention.base import AttentionConfig
from hpc_bench.attention.maskers.h2o import H2O
from hpc_bench.attention.maskers.local import Local
from hpc_bench.attention.maskers.quest import Quest
from hpc_bench.attention.maskers.sink import Sink
from hpc_bench.attention.maskers.snapkv import SnapKV
from hpc_bench.values import Answer, Generation, ModelOptions, PromptForm, Sample
from tests.support.tokenizers import KINDS, TEXT

PARTS = [
    ("Text.\n\n", "Answer"),
    ("The old farmer. ", "Who walked?"),
    ("  The old farmer", " Who walked? "),
    ("The old farmer\n", "  Who?\n\n"),
    ("The old farm", "er walked. Who?"),
    ("", "Who walked near the river?"),
    ("The river 12", "30 Who?"),
    ("Über ñ 漢", "字 Who?"),
]
USER, ASSISTANT = PromptForm("user"), PromptForm("assistant")


@pytest.fixture(scope="module", params=list(KINDS))
def tokenizer(request: pytest.FixtureRequest) -> Any:
    return KINDS[request.param]()


def sample(context: str = "Text.\n\n", question: str = "Answer", **kwargs: Any) -> Sample:
    return dataclasses.replace(Sample("s", context, question, ("x",), 8, form=USER), **kwargs)


def chat_ids(tokenizer: Any, message: str) -> list[int]:
    """As transformers encodes a chat prompt, with the BOS that some templates leave to the tokenizer."""
    turn = [{"role": "user", "content": message}]
    ids = list(tokenizer.apply_chat_template(turn, add_generation_prompt=True, return_dict=False))
    first = tokenizer("a")["input_ids"][:1]
    return ids if first != [tokenizer.bos_token_id] or ids[:1] == first else first + ids


@pytest.mark.parametrize(("context", "question"), PARTS)
def test_ids_are_those_of_the_whole_chat_prompt(tokenizer: Any, context: str, question: str) -> None:
    prompt = Prompts(tokenizer).prompt(sample(context, question, answer_prefix="Answer:"))

    assert prompt.ids == chat_ids(tokenizer, f"{context}{question}Answer:")


@pytest.mark.parametrize(("context", "question"), PARTS)
def test_ids_without_chat_are_those_of_the_whole_text(tokenizer: Any, context: str, question: str) -> None:
    prompt = Prompts(tokenizer).prompt(sample(context, question, answer_prefix="Answer:", chat=False))

    assert prompt.ids == list(tokenizer(f"{context}{question}Answer:")["input_ids"])


@pytest.mark.parametrize("kind", ["gpt-2", "llama-3"])
@pytest.mark.parametrize(
    ("context", "question"), [*PARTS, ("Text.\n", " Who?"), ("Text.\n", "  Who?"), ("a ", " \n b")]
)
def test_seam_is_the_first_id_that_is_not_wholly_in_the_context(kind: str, context: str, question: str) -> None:
    tokenizer = KINDS[kind]()

    prompt = Prompts(tokenizer).prompt(sample(context, question, chat=False))

    def text(ids: list[int]) -> bytes:
        return "".join(tokenizer.decode(ids, skip_special_tokens=True)).encode()

    before, through = text(prompt.ids[: prompt.seam]), text(prompt.ids[: prompt.seam + 1])
    assert context.encode().startswith(before)
    assert len(through) > len(context.encode())


def test_a_token_that_lies_in_context_and_question_is_not_the_contexts() -> None:
    tokenizer = KINDS["gpt-2"]()

    prompt = Prompts(tokenizer).prompt(sample("The old farmer. ", "Who walked?", chat=False))

    assert tokenizer.decode(prompt.ids[: prompt.seam]) == "The old farmer."
    assert tokenizer.decode(prompt.ids[prompt.seam :]) == " Who walked?"


def test_template_that_trims_the_message_moves_the_seam() -> None:
    tokenizer = KINDS["llama-3"]()

    prompt = Prompts(tokenizer).prompt(sample("  Text.", " Who?"))

    assert tokenizer.decode(prompt.ids[: prompt.seam]) == "<s><|im_start|>user\n\nText."


def test_tokenizer_without_offsets_finds_the_seam_by_the_contexts_own_ids() -> None:
    tokenizer = ByT5Tokenizer()

    prompt = Prompts(tokenizer).prompt(sample("Text. ", "Who?", chat=False))

    assert tokenizer.decode(prompt.ids[: prompt.seam]) == "Text. "
    assert prompt.ids == tokenizer("Text. Who?", add_special_tokens=False)["input_ids"]


def test_parts_are_encoded_apart_where_the_sweep_says_so() -> None:
    """The ids that kvpress makes."""
    tokenizer = KINDS["gpt-2"]()
    form = PromptForm("assistant", "parts")
    head, tail = "<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n"

    prompt = Prompts(tokenizer).prompt(sample(answer_prefix=" So:", form=form))

    encode = Prompts(tokenizer).encode
    assert prompt.ids[: prompt.seam] == encode(f"{head}Text.\n\n")
    assert prompt.ids[prompt.seam :] == encode(f"Answer{tail} So:")
    assert prompt.ids != Prompts(tokenizer).prompt(sample(answer_prefix=" So:", form=ASSISTANT)).ids


@pytest.mark.parametrize(("form", "end"), [(USER, "Who? So:<|im_end|>"), (ASSISTANT, "assistant\n So:")])
def test_answer_prefix_stands_where_it_was_asked_for(form: PromptForm, end: str) -> None:
    tokenizer = KINDS["gpt-2"]()

    ids = Prompts(tokenizer).prompt(sample("Text.", " Who?", answer_prefix=" So:", form=form)).ids

    assert end in tokenizer.decode(ids)


@pytest.mark.parametrize("chat", [True, False])
def test_both_places_are_one_without_a_template(chat: bool) -> None:
    tokenizer = KINDS["llama-2"]()
    tokenizer.chat_template = None if chat else tokenizer.chat_template

    user, assistant = (
        Prompts(tokenizer).prompt(sample(answer_prefix=" So:", form=form, chat=chat)) for form in (USER, ASSISTANT)
    )

    assert user == assistant


def test_prefix_that_the_sweep_puts_before_an_opened_thought_is_refused() -> None:
    tokenizer = KINDS["gpt-2"]()
    tokenizer.chat_template += "<think>\n"
    asked = PromptForm("assistant", is_explicit=True)

    with pytest.raises(AdapterError, match=r"request_kwargs\.answer_prefix"):
        Prompts(tokenizer).prompt(sample(answer_prefix="So:", form=asked))
    assert Prompts(tokenizer).prompt(sample(form=asked)).ids
    prompts = Prompts(tokenizer)
    own, user = (prompts.prompt(sample(answer_prefix="So:", form=form)) for form in (ASSISTANT, USER))
    assert own == user


def test_shared_part_ends_where_prompts_part_and_never_beyond_a_seam() -> None:
    assert shared_length([Prompt([1, 2, 3, 4, 5], 4)]) == 4
    assert shared_length([Prompt([1, 2, 3, 4, 5], 4), Prompt([1, 2, 3, 4, 6], 3)]) == 3
    assert shared_length([Prompt([1, 2, 3, 4, 5], 4), Prompt([1, 2, 7, 4, 5], 4)]) == 2


# A clock that stands still


@pytest.mark.parametrize(
    "reading",
    [
        "{{ strftime_now('%d %b %Y') }}",
        "{% if date_string is not defined %}{% set date_string = strftime_now('%d') %}{% endif %}{{ date_string }}",
        "{{ strftime_now('%B %d, %Y') | replace('July 26, 2024', '26 Jul 2024') }}",
        "{{ date_string }}",
        "{% if datetime is defined and datetime.startswith('2024-07-26') %}26 Jul 2024{% endif %}",
        "{% macro day() %}{{ strftime_now('%-d %b %Y') }}{% endmacro %}{{ day() }}",
    ],
)
def test_every_template_is_told_the_same_day(reading: str) -> None:
    tokenizer = KINDS["gpt-2"]()
    tokenizer.chat_template = f"\n  {{% set unused = 1 %}}\nToday: {reading}.\n{{{{ messages[0].content }}}}"

    ids = Prompts(tokenizer).prompt(sample()).ids

    assert tokenizer.decode(ids) == "\nToday: 26 Jul 2024.\nText.\n\nAnswer"


# What is cut


def test_middle_cuts_as_the_authors_do() -> None:
    """LongBench/pred.py: the halves of the whole prompt's ids are decoded, put together, and encoded again."""
    tokenizer = KINDS["llama-2"]()
    whole = sample(TEXT, "Who walked near the river?", answer_prefix="\nAnswer:")
    ids = tokenizer(f"{TEXT}Who walked near the river?\nAnswer:")["input_ids"]
    limit = 2 * (len(ids) // 3)
    halves = (tokenizer.decode(part, skip_special_tokens=True) for part in (ids[: limit // 2], ids[-(limit // 2) :]))

    cut = Prompts(tokenizer).cut(whole, limit, "middle")

    assert cut.context + cut.question + cut.answer_prefix == "".join(halves)
    assert Prompts(tokenizer).prompt(cut).ids == chat_ids(tokenizer, cut.context + cut.question + cut.answer_prefix)


# One question alone and beside others

QUESTIONS = ["Answer", "\nAnswer", "\n\nWho?", " Who walked?", "Who bought it?", "Question: Who?", ".", "  So"]
CONFIGS = {
    "dense": AttentionConfig(),
    "streaming": AttentionConfig((Sink(2), Local(6))),
    "quest": AttentionConfig((Sink(2), Quest(16, 4))),
    "h2o": AttentionConfig((H2O(8, 8),)),
    "snapkv": AttentionConfig((SnapKV(16, 4),)),
    "sparse_prefill": AttentionConfig((Sink(2), Local(6)), sparse_prefill=True),
}


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> HuggingFaceAdapter:
    folder, tokenizer = tmp_path_factory.mktemp("model"), KINDS["gpt-2"]()
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), initializer_range=0.5, **sizes)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return HuggingFaceAdapter.load(ModelOptions(str(folder), device="cpu", model_kwargs={"dtype": "float32"}))


@pytest.mark.parametrize("name", CONFIGS)
def test_question_is_answered_alone_as_beside_seven_others(adapter: HuggingFaceAdapter, name: str) -> None:
    samples = [sample(TEXT + "Text.\n\n", question, sample_id=question) for question in QUESTIONS]
    together = adapter.prefill(samples, [CONFIGS[name]])

    unshared = set()
    for asked in samples:
        alone = adapter.prefill([asked], [CONFIGS[name]])
        both = [answered(adapter, prefill, asked, CONFIGS[name]) for prefill in (alone, together)]

        assert next(iter(alone.state.prompts.values())) in together.state.prompts.values()
        assert both[0].unshared_tokens == 0
        unshared.add(both[1].unshared_tokens)
        assert told(both[1]) == told(both[0])
    assert max(unshared) > 0


def answered(adapter: HuggingFaceAdapter, prefill: Any, asked: Sample, config: AttentionConfig) -> Answer:
    return adapter.answer(prefill, asked, config, Generation(min_new_tokens=8))


def told(answer: Answer) -> tuple[Any, ...]:
    density = [round(layer, 5) for layer in answer.layer_density]
    return answer.text, answer.tokens_in, answer.tokens_out, density


def test_model_answers_the_whole_prompt_as_generate_does(adapter: HuggingFaceAdapter) -> None:
    asked = sample(TEXT + "Text.\n\n", "Answer")
    prompt = torch.tensor([chat_ids(adapter._tokenizer, asked.context + asked.question)])
    generated = adapter._model.generate(
        prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=8, min_new_tokens=8, do_sample=False
    )

    answer = answered(adapter, adapter.prefill([asked]), asked, AttentionConfig())

    assert answer.text == adapter._tokenizer.decode(generated[0, prompt.shape[1] :], skip_special_tokens=True)


def test_prompt_is_counted_as_it_is_fed(adapter: HuggingFaceAdapter, tmp_path: Path) -> None:
    asked = sample(TEXT + "Text.\n\n", "Answer")

    answer = answered(adapter, adapter.prefill([asked]), asked, AttentionConfig())

    assert (
        answer.tokens_in == adapter.prompt_tokens(asked) == len(chat_ids(adapter._tokenizer, TEXT + "Text.\n\nAnswer"))
    )
