"""The transformers adapter on the demo models: shared prefill, prompts, decoding, options."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoTokenizer,
)

import hpc_bench
from hpc_bench import catalog
from hpc_bench.adapters.base import AdapterError, DeviceError
from hpc_bench.adapters.decoding import Decoder, eos_ids
from hpc_bench.adapters.huggingface import HuggingFaceAdapter
from hpc_bench.adapters.prompt import Prompts
from hpc_bench.attention.base import AttentionConfig, AttentionInputs
from hpc_bench.attention.maskers.local import Local
from hpc_bench.attention.maskers.oracle_top_k import OracleTopK
from hpc_bench.attention.maskers.sink import Sink
from hpc_bench.values import Answer, Generation, ModelOptions, PromptForm, Sample
from tests.support.running import PATIENCE_S

DEMO = Path(hpc_bench.__file__).parent / "demo"
FACTS = {"apple": "4829", "tiger": "1375", "violin": "9064", "copper": "2718"}
FILLER = "The old farmer walked near the river. In the morning a teacher bought the green book."
CONTEXT = (
    "Some special magic numbers are hidden in the text below. Read it and answer the questions.\n\n"
    + " ".join(f"{FILLER} {FILLER} The special magic number for {key} is {value}." for key, value in FACTS.items())
    + f" {FILLER}"
)
DENSE = AttentionConfig()
SPARSE = AttentionConfig((Sink(4), Local(16), OracleTopK(8)))
CONFIGS = [
    DENSE,
    SPARSE,
    *[
        AttentionConfig((catalog.build("masker", name, {field: size}),))
        for name, field, size in (
            ("sink", "size", 8),
            ("sink", "size", 0.5),
            ("local", "size", 24),
            ("local", "size", 0.5),
            ("oracle_top_k", "heavy", 16),
            ("oracle_top_k", "heavy", 0.1),
        )
    ],
]
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}[{{ m.role }}] {{ m.content }} [/]{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)


FLOAT32 = {"dtype": "float32"}


@pytest.fixture(autouse=True)
def _no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def options(name: str | Path = "tiny-2l", **kwargs: Any) -> ModelOptions:
    return ModelOptions(source=str(DEMO / name), **{"device": "cpu", **kwargs})


@pytest.fixture(scope="module", params=["tiny-2l", "tiny-4l"])
def either(request: pytest.FixtureRequest) -> HuggingFaceAdapter:
    return HuggingFaceAdapter.load(options(request.param, model_kwargs=FLOAT32))


@pytest.fixture(scope="module")
def adapter() -> HuggingFaceAdapter:
    return HuggingFaceAdapter.load(options(model_kwargs=FLOAT32))


def sample(key: str = "apple", **kwargs: Any) -> Sample:
    question = f"\nWhat is the special magic number for {key}? The special magic number for {key} is"
    base = Sample(key, CONTEXT, question, (FACTS.get(key, ""),), max_new_tokens=8)
    return dataclasses.replace(base, **kwargs)


def ask(
    model: HuggingFaceAdapter, what: Sample, attention: AttentionConfig = DENSE, wanted: Generation | None = None
) -> Answer:
    prefill = model.prefill([what], [attention])
    return model.answer(prefill, what, attention, wanted or Generation())


def facts(answer: Answer) -> dict[str, Any]:
    """All of an answer but its timings."""
    return {key: value for key, value in dataclasses.asdict(answer).items() if key not in ("seconds", "prefill_s")}


# Shared prefill


def test_demo_models_find_the_needles(either: HuggingFaceAdapter) -> None:
    answers = {key: ask(either, sample(key)) for key in FACTS}

    assert {key: answer.text.strip() for key, answer in answers.items()} == FACTS
    assert all(answer.density == 1.0 for answer in answers.values())


def test_shared_prefill_answers_as_separate_prefills_do(either: HuggingFaceAdapter) -> None:
    wanted = Generation(min_new_tokens=6)
    pairs = [(sample(key), config) for key in FACTS for config in CONFIGS]
    fresh = [facts(ask(either, what, config, wanted)) for what, config in pairs]

    shared = either.prefill([sample(key) for key in FACTS], CONFIGS)
    forth = [facts(either.answer(shared, what, config, wanted)) for what, config in pairs]
    back = [facts(either.answer(shared, what, config, wanted)) for what, config in reversed(pairs)]

    assert forth == fresh
    assert back[::-1] == fresh
    assert len({answer["text"] for answer in fresh}) > len(FACTS)


def test_density_is_the_share_of_visible_keys(adapter: HuggingFaceAdapter) -> None:
    answer = ask(
        adapter, sample(), AttentionConfig((Sink(4), Local(16))), Generation(max_new_tokens=3, min_new_tokens=3)
    )

    first = adapter.prefill([sample()]).tokens
    seen = range(first + 1, answer.tokens_in + 3)  # the last token of an answer is never fed
    assert answer.density == pytest.approx(sum(20 / keys for keys in seen) / len(seen), rel=1e-5)


def test_an_error_while_answering_leaves_the_prefill_usable(adapter: HuggingFaceAdapter) -> None:
    @dataclasses.dataclass(frozen=True)
    class Breaks(Local):
        def select(self, inputs: AttentionInputs, kept: torch.Tensor) -> torch.Tensor:
            if inputs.layer == 1:
                raise torch.OutOfMemoryError("out of memory")
            return super().select(inputs, kept)

    shared = adapter.prefill([sample()])

    with pytest.raises(torch.OutOfMemoryError):
        adapter.answer(shared, sample(), AttentionConfig((Breaks(4),)), Generation())

    assert facts(adapter.answer(shared, sample(), DENSE, Generation())) == facts(ask(adapter, sample()))


def test_empty_context_is_answered(adapter: HuggingFaceAdapter) -> None:
    moved = sample(context="", question=CONTEXT + sample().question)

    assert ask(adapter, moved).text == ask(adapter, sample()).text
    assert ask(adapter, moved, AttentionConfig((Sink(4), OracleTopK(10**6)))).text == ask(adapter, moved).text


@pytest.mark.parametrize("other", [{"chat": False}, {"question": " Who?"}, {"form": PromptForm(encode="parts")}])
def test_prefill_of_another_prompt_is_refused(adapter: HuggingFaceAdapter, other: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="the prefill was not made for sample apple"):
        adapter.answer(adapter.prefill([sample(**other)]), sample(), DENSE, Generation())


@pytest.mark.parametrize("other", [{"chat": False}, {"context": "Another text."}])
def test_prefill_of_two_contexts_is_refused(adapter: HuggingFaceAdapter, other: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="samples about one context"):
        adapter.prefill([sample(), sample(**other)])


def test_missing_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match="no-such-model"):
        HuggingFaceAdapter.load(options(tmp_path / "no-such-model"))


# Prompts


@pytest.fixture
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(DEMO / "tiny-2l")


def whole_prompt(tokenizer: Any, what: Sample) -> list[int]:
    return Prompts(tokenizer).prompt(what).ids


@pytest.mark.parametrize("chat", [True, False])
@pytest.mark.parametrize("template", [None, TEMPLATE, TEMPLATE.replace("{{ bos_token }}", "")])
def test_prompt_has_one_bos_and_no_eos(tokenizer: Any, template: str | None, chat: bool) -> None:
    tokenizer.chat_template = template
    tokenizer._tokenizer.post_processor = type(tokenizer._tokenizer.post_processor)(
        single="<|bos|> $A <|eos|>", special_tokens=[("<|bos|>", 0), ("<|eos|>", 1)]
    )

    ids = whole_prompt(tokenizer, sample(chat=chat, answer_prefix=" It is"))

    assert ids.count(tokenizer.bos_token_id) == 1
    assert ids[0] == tokenizer.bos_token_id
    assert tokenizer.eos_token_id not in ids


def test_tokenizer_without_bos_gets_none(tokenizer: Any) -> None:
    tokenizer._tokenizer.post_processor = type(tokenizer._tokenizer.post_processor)(single="$A", special_tokens=[])

    assert whole_prompt(tokenizer, sample()) == Prompts(tokenizer).encode(CONTEXT + sample().question)
    assert Prompts(tokenizer).prompt(sample(context="", chat=False)).seam == 0


def test_template_stands_around_context_and_question(tokenizer: Any) -> None:
    tokenizer.chat_template = TEMPLATE
    what = sample(context="[context]", question=" [question]", answer_prefix=" [prefix]")

    text = tokenizer.decode(whole_prompt(tokenizer, what))

    assert text == "<|bos|>[user] [context] [question] [/][assistant] [prefix]"


def test_sample_without_chat_is_plain_text(tokenizer: Any) -> None:
    tokenizer.chat_template = TEMPLATE
    what = sample(context="[context]", question=" [question]", answer_prefix=" [prefix]", chat=False)

    assert tokenizer.decode(whole_prompt(tokenizer, what)) == "<|bos|>[context] [question] [prefix]"


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ messages[0].content }}{{ messages[0].content }}", "2 times"),
        ("{{ messages[0].content | upper }}", "0 times"),
        ("{{ raise_exception('no system') }}", "no system"),
    ],
)
def test_template_that_cannot_be_split_is_refused(tokenizer: Any, template: str, message: str) -> None:
    tokenizer.chat_template = template

    with pytest.raises(AdapterError, match=message):
        whole_prompt(tokenizer, sample())


def test_prompt_beyond_the_positions_is_refused(adapter: HuggingFaceAdapter) -> None:
    with pytest.raises(AdapterError, match=r"4096 positions.*request_kwargs\.max_context_length"):
        adapter.prefill([sample(context=FILLER * 400)])
    with pytest.raises(AdapterError, match="may have 4000"):
        ask(adapter, sample(max_new_tokens=4000))


# Decoding


def scripted(text: str, tokenizer: Any, **generation: Any) -> tuple[Decoder, list[int]]:
    """Decodes with a model that says `text`, whatever it is asked."""
    script = [*tokenizer(text, add_special_tokens=False)["input_ids"], *[5] * 50]
    stops, least = generation.pop("sample_stops", ()), generation.pop("sample_least", 0)
    what = sample(stop_strings=stops, min_new_tokens=least, max_new_tokens=40)
    decoder = Decoder(tokenizer, frozenset({1, 2}), what, Generation(**generation))
    said = iter(script)
    answer = decoder.decode(lambda fed: torch.nn.functional.one_hot(torch.tensor([next(said)]), 767).float(), [0], [7])
    return decoder, answer


@pytest.mark.parametrize("end", ["<|eos|>", "<|pad|>"])
def test_every_eos_ends_the_answer_and_is_no_text(tokenizer: Any, end: str) -> None:
    decoder, answer = scripted(f" green book{end} river", tokenizer)

    assert decoder.text(answer) == " green book"
    assert len(answer) == 3


def test_first_token_may_be_the_eos(tokenizer: Any) -> None:
    decoder, answer = scripted("<|eos|> river", tokenizer)

    assert (answer, decoder.text(answer)) == ([1], "")


@pytest.mark.parametrize("where", ["stop_strings", "sample_stops"])
def test_stop_string_ends_the_answer_and_is_cut(tokenizer: Any, where: str) -> None:
    decoder, answer = scripted(" green book river village", tokenizer, **{where: ("ok ri",)})

    assert decoder.text(answer) == " green bo"
    assert len(answer) == 3


def test_stop_string_counts_only_behind_the_required_tokens(tokenizer: Any) -> None:
    decoder, answer = scripted("\n green\n book", tokenizer, stop_strings=("\n",), min_new_tokens=1)

    assert decoder.text(answer) == "\n green"


def test_sample_requires_a_token_before_its_stop_string(tokenizer: Any) -> None:
    """As LongBench asks samsum: the newline is no first token, and ends the answer from the second on."""
    newline = tokenizer("\n", add_special_tokens=False)["input_ids"]

    decoder, answer = scripted("\n green\n book", tokenizer, sample_stops=("\n",), sample_least=1)

    assert answer[0] not in newline
    assert decoder.text(answer).endswith(" green")
    assert scripted("\n green", tokenizer, sample_stops=("\n",))[1] == newline


def test_sweep_lowers_the_limit_and_raises_it_only_when_told_to(tokenizer: Any) -> None:
    assert len(scripted(" green" * 60, tokenizer, max_new_tokens=3)[1]) == 3
    assert len(scripted(" green" * 60, tokenizer, max_new_tokens=45)[1]) == 40
    assert len(scripted(" green" * 60, tokenizer, max_new_tokens=45, override_limits=True)[1]) == 45
    assert len(scripted(" green" * 60, tokenizer, max_new_tokens=3, override_limits=True)[1]) == 3


def test_limit_of_one_sample_never_reaches_another(adapter: HuggingFaceAdapter) -> None:
    shared = adapter.prefill([sample()])
    wanted = Generation(max_new_tokens=4, min_new_tokens=12)
    limits = (2, 8, 3, 8)

    asked = [sample(max_new_tokens=limit) for limit in limits]
    told = [adapter.answer(shared, what, DENSE, wanted).tokens_out for what in asked]

    assert told == [2, 4, 3, 4]
    assert [what.max_new_tokens for what in asked] == list(limits)


@pytest.mark.parametrize(("configured", "expected"), [(5, {1, 5}), ([5, 6], {1, 5, 6}), (None, {1})])
def test_eos_of_model_and_tokenizer_count(tokenizer: Any, configured: Any, expected: set[int]) -> None:
    class Model:
        class generation_config:  # noqa: N801
            eos_token_id = configured

    assert eos_ids(Model, tokenizer) == expected


@pytest.mark.parametrize(
    "wanted",
    [
        Generation(repetition_penalty=1.5),
        Generation(min_new_tokens=8),
        Generation(repetition_penalty=1.3, min_new_tokens=5, max_new_tokens=6),
    ],
)
def test_greedy_answers_equal_transformers_generate(adapter: HuggingFaceAdapter, wanted: Generation) -> None:
    what = sample()
    prompt = torch.tensor([whole_prompt(adapter._tokenizer, what)])
    generated = adapter._model.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        max_new_tokens=min(8, wanted.max_new_tokens or 8),
        min_new_tokens=wanted.min_new_tokens or None,
        repetition_penalty=wanted.repetition_penalty,
        do_sample=False,
    )

    answer = ask(adapter, what, DENSE, wanted)

    ids = generated[0, prompt.shape[1] :].tolist()
    assert answer.text == adapter._tokenizer.decode(ids, skip_special_tokens=True)
    assert answer.tokens_out == len(ids)


def test_sampling_does_not_depend_on_order(adapter: HuggingFaceAdapter) -> None:
    wanted = Generation(do_sample=True, temperature=3.0, top_k=50, top_p=0.95, min_p=0.001, min_new_tokens=8, seed=1)
    shared = adapter.prefill([sample(key) for key in FACTS])
    forth = {key: adapter.answer(shared, sample(key), DENSE, wanted).text for key in FACTS}
    back = {key: adapter.answer(shared, sample(key), DENSE, wanted).text for key in reversed(FACTS)}
    other_seed = dataclasses.replace(wanted, seed=2)
    others = {key: adapter.answer(shared, sample(key), DENSE, other_seed).text for key in FACTS}
    renamed = adapter.answer(shared, sample(sample_id="another"), DENSE, wanted).text

    assert forth == back
    assert forth != others
    assert renamed != forth["apple"]


# Options, device, provenance


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"device": "tpu"}, "auto, cpu, cuda"),
        ({"gpus": 0}, "gpus"),
        ({"model_kwargs": {"attn_implementation": "eager"}}, "attn_implementation"),
        ({"model_kwargs": {"device_map": "auto"}}, "device_map"),
        ({"model_kwargs": {"revision": "x"}}, "revision"),
        ({"tokenizer_kwargs": {"trust_remote_code": True}}, "trust_remote_code"),
        ({"model_kwargs": {"dtype": "float32", "torch_dtype": "float32"}}, "both"),
        ({"model_kwargs": {"torch_dtype": "bfloat61"}}, "bfloat16"),
    ],
)
def test_wrong_option_is_named(kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        HuggingFaceAdapter.check_options(options(**kwargs))


@pytest.mark.parametrize("kwargs", [{"dtype": "bfloat16"}, {"torch_dtype": "bfloat16"}, {"torch_dtype": "auto"}])
def test_dtype_may_have_its_older_name(kwargs: dict[str, Any]) -> None:
    loaded = HuggingFaceAdapter.load(options(model_kwargs=kwargs, tokenizer_kwargs={"padding_side": "right"}))

    assert loaded.provenance()["dtype"] == "bfloat16"
    assert loaded._tokenizer.padding_side == "right"
    assert ask(loaded, sample()).text.strip() == FACTS["apple"]


def test_provenance_is_json(adapter: HuggingFaceAdapter) -> None:
    provenance = adapter.provenance()

    assert json.loads(json.dumps(provenance)) == provenance
    assert provenance["dtype"] == "float32"
    assert provenance["attention"] == "hpc_bench"
    assert (adapter.peak_memory_gb() or 0) > 0.01


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
@pytest.mark.parametrize(("device", "mask"), [("auto", "0"), ("auto", "GPU-1a2b"), ("cuda", None), ("cuda", "0")])
def test_gpu_slot_without_cuda_is_an_error(monkeypatch: pytest.MonkeyPatch, device: str, mask: str | None) -> None:
    if mask is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", mask)

    with pytest.raises(DeviceError, match="CUDA_VISIBLE_DEVICES"):
        HuggingFaceAdapter.check_device(options(device=device))
    with pytest.raises(DeviceError):
        HuggingFaceAdapter.load(options(device=device))


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
@pytest.mark.parametrize("mask", [None, "", "-1", "none", "NoDevFiles"])
def test_slot_without_gpu_runs_on_the_cpu(monkeypatch: pytest.MonkeyPatch, mask: str | None) -> None:
    if mask is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", mask)

    assert HuggingFaceAdapter.check_device(options(device="auto")) == "cpu"


def test_cpu_stays_the_cpu_in_a_gpu_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")

    assert HuggingFaceAdapter.check_device(options(device="cpu")) == "cpu"


def test_device_that_computes_wrongly_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "ones", lambda *_, **__: torch.zeros(64, 64))

    with pytest.raises(DeviceError, match="wrongly"):
        HuggingFaceAdapter.check_device(options())


def test_import_loads_no_torch_and_registers_nothing() -> None:
    code = """
import sys
from hpc_bench import catalog
from hpc_bench.values import ModelOptions
catalog.resolve("adapter", "huggingface").check_options(ModelOptions("m", model_kwargs={"dtype": "bfloat16"}))
for name in catalog.names("masker"):
    catalog.resolve("masker", name)
assert "torch" not in sys.modules and "transformers" not in sys.modules
import hpc_bench.adapters.sparse.attention_interface
from transformers import AttentionInterface, AttentionMaskInterface
assert "hpc_bench" not in AttentionInterface().valid_keys()
assert "hpc_bench" not in AttentionMaskInterface().valid_keys()
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=PATIENCE_S)


def test_device_errors_other_than_full_memory_end_the_process(adapter: HuggingFaceAdapter) -> None:
    assert adapter.breaks_device(torch.AcceleratorError("CUDA error: device-side assert triggered"))
    assert not adapter.breaks_device(torch.OutOfMemoryError("CUDA out of memory"))
    assert not adapter.breaks_device(ValueError("no"))
