"""LooGLE's figures by hand, against the library that its authors use, and on text made to break them."""

from __future__ import annotations

import json
import os
import platform
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nltk.translate.bleu_score import sentence_bleu
from rouge import Rouge as OfficialRouge

from hpc_bench.benchmarks.metrics import loogle as loogle_metrics
from hpc_bench.benchmarks.metrics.loogle import bert_scores, bleu, masks_of, matched_masks, overlap_scores
from hpc_bench.benchmarks.metrics.meteor import HASH_SEEDS, meteor_scores
from hpc_bench.benchmarks.metrics.rouge import rouge_l, rouge_n
from hpc_bench.benchmarks.suites.loogle import LooGLE
from hpc_bench.errors import DatasetError
from hpc_bench.values import Sample, Scores
from tests.support.benchmark_rows import write_jsonl
from tests.support.builders import run_cli, write_sweep
from tests.support.running import results, submit, write_scripted_sweep
from tests.support.small_wordnet import write_wordnet

NEW_TOKENS = {"shortdep_qa": 300, "longdep_qa": 500, "longdep_summarization": 500, "shortdep_cloze": 50}
MASKS = '{"<mask-0>": "Bob Lee", "<mask-1>": "New York"}'


def row(task: str = "shortdep_qa", answer: str = "the cat sat", **changes: Any) -> dict[str, Any]:
    fields = {
        "context": "Please answer the question based on the long texts below. \nA long text.",
        "question": "\nQuestion: Who sat?\n",
        "answer_prefix": "Answer: ",
        "answer": answer,
        "task": task,
        "max_new_tokens": 999,
    }
    return {**fields, **changes}


def score(task: str, *pairs: tuple[str, str]) -> Scores:
    samples = [Sample(str(i), "c", "q", (answer,), 8, task=task) for i, (answer, _) in enumerate(pairs)]
    return LooGLE().score(samples, [prediction for _, prediction in pairs])


@pytest.mark.parametrize(
    ("prediction", "reference", "expected"),
    [
        ("the cat sat on", "the cat sat on", (1, 1, 1, 1, 1)),
        # 3 of 4 words; no 4-gram; 3 of 4 words, 2 of 3 pairs and a run of 3 wanted.
        ("the cat sat down", "the cat sat on", (0.75, 0, 0.75, 2 / 3, 0.75)),
        # Both 4-grams said are among the two wanted, the brevity penalty is none, and all of it is recalled.
        ("a b c d e", "a b c d e", (1, 1, 1, 1, 1)),
        # Half as long: e^(1 - 8/4) punishes it, and half is recalled; 3 of 7 pairs.
        ("a b c d", "a b c d e f g h", (0.36787944117, 0.36787944117, 0.5, 3 / 7, 0.5)),
        ("None", "the cat", (0, 0, 0, 0, 0)),
        ("...", "the cat", (0, 0, 0, 0, 0)),
        ("!?", "the cat", (0, 0, 0, 0, 0)),
        (" \n ", "the cat", (0, 0, 0, 0, 0)),
        ("cat the", "the cat", (1, 0, 1, 0, 0.5)),  # the order matters to pairs and runs
        ("the\ncat", "the cat", (1, 0, 1, 1, 1)),  # a line break is a blank
        ("Cat", "cat", (0, 0, 0, 0, 0)),  # case matters
    ],
)
def test_overlap_by_hand(prediction: str, reference: str, expected: tuple[float, ...]) -> None:
    scores = overlap_scores(prediction, reference)

    names = ("bleu1", "bleu4", "rouge_1", "rouge_2", "rouge_l")
    assert scores == pytest.approx(dict(zip(names, expected, strict=True)), abs=1e-9)


@settings(deadline=None, max_examples=300)
@given(*[st.text(st.sampled_from("abcA. .\n  "), max_size=60)] * 2)
def test_rouge_is_that_of_the_package_that_the_authors_use(prediction: str, reference: str) -> None:
    try:
        official = OfficialRouge().get_scores(prediction, reference)[0]
    except ValueError:  # it takes no text without a sentence
        official = {name: {"r": 0.0, "p": 0.0, "f": 0.0} for name in ("rouge-1", "rouge-2", "rouge-l")}

    ours = [rouge_n(prediction, reference, 1), rouge_n(prediction, reference, 2), rouge_l(prediction, reference)]

    for made, name in zip(ours, ("rouge-1", "rouge-2", "rouge-l"), strict=True):
        assert (made.recall, made.precision, made.f1) == tuple(official[name][key] for key in "rpf")


@settings(deadline=None, max_examples=300)
@given(*[st.lists(st.sampled_from("abcd"), max_size=20)] * 2)
@pytest.mark.filterwarnings(r"ignore:\s*The hypothesis contains 0 counts of:UserWarning")
def test_bleu_is_that_of_the_package_that_the_authors_use(said: list[str], wanted: list[str]) -> None:
    official = sentence_bleu([wanted], said, weights=[(1, 0, 0, 0), (0, 0, 0, 1)])

    assert [bleu(said, wanted, 1), bleu(said, wanted, 4)] == list(map(float, official))


@pytest.mark.parametrize(
    ("prediction", "counts"),
    [
        ("{'<mask-0>': 'Bob Lee', '<mask-1>': 'New York'}", (2, 2)),
        (' {"<mask-0>": "Bob", "<mask-1>": "York City"}\n', (0, 2)),
        ("{'<mask-0>': 'Bob Lee', '<mask-1>': 'Paris'}", (1, 1)),
        ("{'<mask-1>': 'new york'}", (0, 0)),
        ("{'<mask-2>': 'Bob Lee'}", (0, 0)),
        ("{'<mask-0>': 5, '<mask-1>': ['New York']}", (0, 0)),
        ("['Bob Lee', 'New York']", (0, 0)),
        ("{'<mask-0>': 'Bob Lee'} is my answer", (0, 0)),
        ("Bob Lee", (0, 0)),
        ("", (0, 0)),
        ("dict([('<mask-0>', 'Bob Lee')])", (0, 0)),  # the authors' eval takes it; nothing is evaluated here
        ("{'<mask-0>': '\\d'}", (0, 0)),
    ],
)
def test_cloze_by_hand(prediction: str, counts: tuple[int, int]) -> None:
    assert matched_masks(prediction, masks_of(MASKS)) == counts


@pytest.mark.parametrize(
    "bomb",
    [
        "__import__('os').abort()",
        "(" * 100_000,
        "[" * 9_999,
        "-" * 9_999 + "1",
        "1" + "+1" * 4_900,
        "x" + ".x" * 4_900,
        "{'a': " * 1_500,
        "9" * 9_999,
        "9**9**9**9",
        "'a' * 10**12",
        "{" + "'k': 1, " * 1_000_000 + "}",
        "\x00",
        "\ud800",
        "{[]: 1}",
        "{{}: 1}",
        "1if 1else " * 900 + "1",
    ],
)
def test_literal_bomb_is_a_wrong_answer_and_fast(bomb: str) -> None:
    started = time.process_time()

    assert matched_masks(bomb, masks_of(MASKS)) == (0, 0)
    assert time.process_time() - started < 1


@settings(deadline=None, max_examples=200)
@given(st.one_of(st.text(max_size=200), st.text("{}[]()'\":,<>mask-01 .\\\n", max_size=200)))
def test_no_text_breaks_a_figure(text: str) -> None:
    for task, reference in (("shortdep_cloze", MASKS), ("shortdep_qa", "The cat. It sat.")):
        scores = score(task, (reference, text))

        assert scores.score is not None
        assert 0 <= scores.score <= 100


def test_long_digits_take_less_than_a_second() -> None:
    score("shortdep_qa", ("warm", "up"))
    started = time.process_time()

    score("shortdep_qa", ("The answer is 42.", "1234567890" * 100_000))

    assert time.process_time() - started < 1


def test_questions_are_scored_by_their_mean_recall_of_rouge_l() -> None:
    scores = score("longdep_qa", ("the cat sat on", "the cat sat down"), ("the cat sat on", ""))

    assert scores.score == scores.metrics["rouge_l"].value == 37.5
    assert scores.metrics["rouge_2"].value == 33.33
    assert [line["bleu1"] for line in scores.per_sample] == [75.0, 0.0]


def test_clozes_are_scored_over_all_their_masks_together() -> None:
    one, two = '{"<mask-0>": "Ann"}', '{"<mask-0>": "Bob Lee", "<mask-1>": "New York"}'

    scores = score("shortdep_cloze", (one, "{'<mask-0>': 'Ann'}"), (two, "{'<mask-0>': 'Bob', '<mask-1>': 'x'}"))

    assert scores.score == scores.metrics["exact_match"].value == 33.33  # 1 of 3, not the mean of 1 and 0
    assert scores.metrics["partial_match"].value == 66.67
    assert [line["partial_match"] for line in scores.per_sample] == [100.0, 50.0]


def test_share_of_masks_is_rounded_to_four_places_first() -> None:
    pairs = [('{"<mask-0>": "Ann"}', "{'<mask-0>': '%s'}" % ("Ann" if place < 946 else "x")) for place in range(1600)]

    assert score("shortdep_cloze", *pairs).score == 59.13  # numpy's 0.5913, where 100 * 946 / 1600 is 59.125


def test_what_is_missing_here_is_said_and_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loogle_metrics, "find_spec", lambda name: None)
    monkeypatch.setattr("nltk.data.path", [])

    scores = score("shortdep_qa", ("a", "a"))

    assert "meteor" not in scores.metrics
    assert "no meteor: nltk's wordnet is not here" in scores.note
    assert "no bert_score: the extra `bert-score` is not installed" in scores.note


def use_wordnet(monkeypatch: pytest.MonkeyPatch, nltk_data: Path) -> None:
    monkeypatch.setenv("NLTK_DATA", str(nltk_data))
    monkeypatch.setattr("nltk.data.path", [str(nltk_data)])


def official_meteor(pairs: list[tuple[str, str]], seed: int) -> list[float]:
    """A reading of `get_meteor_score`, in a process with a hash seed."""
    script = """
import json, sys
from nltk.translate.meteor_score import single_meteor_score
def words(text): return set(text.replace("\\n", " ").split())
print(json.dumps([float(single_meteor_score(words(wanted), words(said))) for said, wanted in json.load(sys.stdin)]))
"""
    environment = {**os.environ, "PYTHONHASHSEED": str(seed)}
    done = subprocess.run(
        [sys.executable, "-c", script], input=json.dumps(pairs), env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return [float(score) for score in json.loads(done.stdout)]


def test_meteor_is_that_of_the_authors_under_each_hash_seed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use_wordnet(monkeypatch, write_wordnet(tmp_path, [["big", "great", "grand"], ["town", "burg"], ["road", "way"]]))
    vocabulary = "big great grand town Town burg road roads way ways the The a of school schools, schooling 7 7. été"
    draw = random.Random(0)
    texts = [" ".join(draw.choices(vocabulary.split(), k=draw.randrange(25))) for _ in range(2000)]
    pairs = [*zip(texts[:1000], texts[1000:], strict=True), ("town", "burg")]

    ours, _ = meteor_scores(pairs)

    assert [list(scores) for scores in ours] == [official_meteor(pairs, seed) for seed in HASH_SEEDS]
    assert len({tuple(scores) for scores in ours}) == len(HASH_SEEDS)  # the seed matters
    assert [scores[-1] for scores in ours] == [0.5] * len(HASH_SEEDS)  # a synonym


def test_meteor_is_lower_for_words_in_another_order(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use_wordnet(monkeypatch, write_wordnet(tmp_path / "nltk_data", []))
    (tmp_path / "json.py").write_text("raise SystemExit('imported from the present folder')")
    monkeypatch.chdir(tmp_path)
    reference = (
        "The committee approved the budget after a long debate about schools, roads and public health in the northern"
        " districts of the city."
    )
    answer = "After a long debate about roads, schools and health, the city committee approved a budget."

    scores = score("shortdep_qa", (reference, answer))

    assert scores.metrics["meteor"].value == 23.2
    assert scores.by == {"meteor_hash_seed": {"0": 23.2, "1": 23.2, "2": 30.1, "3": 23.2}}
    assert f"meteor: Python {platform.python_version()}, nltk " in scores.note


@pytest.mark.parametrize("fault", ["torn archive", "file missing", "file torn"])
def test_half_downloaded_wordnet_leaves_meteor_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fault: str) -> None:
    folder = write_wordnet(tmp_path, [["town", "burg"]]) / "corpora" / "wordnet"
    if fault == "torn archive":
        shutil.rmtree(folder)
        folder.with_suffix(".zip").write_bytes(b"PK\x03\x04 and then the connection broke")
    elif fault == "file missing":
        (folder / "lexnames").unlink()
    else:
        (folder / "data.noun").write_text("")
    use_wordnet(monkeypatch, tmp_path)

    scores = score("shortdep_qa", ("the town", "a burg"))

    assert scores.score == 0.0
    assert "meteor" not in scores.metrics
    assert scores.by == {}
    assert "no meteor: it failed with nltk's wordnet" in scores.note
    assert "python -m nltk.downloader --force wordnet" in scores.note


def test_bert_score_is_asked_with_the_reference_as_candidate(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[Any] = []

    def pretend(candidates: list[str], references: list[str], **options: Any) -> tuple[list[float], ...]:
        asked.append((candidates, references, options))
        return [0.1], [0.75], [0.2]

    module = ModuleType("bert_score")
    module.score = pretend  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "bert_score", module)
    monkeypatch.setattr(loogle_metrics, "find_spec", lambda name: module)
    monkeypatch.setattr(loogle_metrics, "_bert_model", lambda: tmp_path)

    scores = score("shortdep_qa", ("the reference", "the answer"))

    assert scores.metrics["bert_score"].value == 75.0
    options = {"model_type": str(tmp_path), "num_layers": 17, "device": "cpu"}
    assert asked == [(["the reference"], ["the answer"], options)]


def test_bert_score_without_its_model_or_broken_costs_no_result(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bert_score", ModuleType("bert_score"))
    monkeypatch.setattr(loogle_metrics, "find_spec", lambda name: name)
    monkeypatch.setattr(loogle_metrics, "_BERT_MODELS", ("no-such/model",))
    missing = bert_scores(["a"], ["b"])
    monkeypatch.setattr(loogle_metrics, "_bert_model", lambda: Path("nowhere"))
    broken = bert_scores(["a"], ["b"])

    assert missing == (None, "no bert_score: no-such/model is not in the hub's cache")
    assert broken[0] is None
    assert "AttributeError" in broken[1]


@pytest.mark.parametrize(("subset", "new_tokens"), NEW_TOKENS.items())
def test_limits_are_the_authors(tmp_path: Path, subset: str, new_tokens: int) -> None:
    write_jsonl(tmp_path / f"{subset}.jsonl", [row(subset, MASKS)])

    (sample,) = LooGLE(data=str(tmp_path)).load(subset, len)

    assert sample.max_new_tokens == new_tokens == LooGLE().size(subset).new_tokens
    assert (sample.references, sample.answer_prefix, sample.chat) == ((MASKS,), "Answer: ", True)


def test_cloze_without_masks_is_refused_by_row(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "shortdep_cloze.jsonl", [row("shortdep_cloze", MASKS), row("shortdep_cloze", "Bob")])

    with pytest.raises(DatasetError, match="line 2: the answer 'Bob' of shortdep_cloze"):
        LooGLE(data=str(tmp_path)).load("shortdep_cloze", len)


@pytest.mark.parametrize(
    ("answer", "wanted"), [("right", (100.0, 100.0)), ("half", (50.0, 50.0)), ("wrong", (0.0, 0.0))]
)
def test_whole_path(tmp_path: Path, answer: str, wanted: tuple[float, float]) -> None:
    data = tmp_path / "data"
    data.mkdir()
    write_jsonl(data / "shortdep_qa.jsonl", [row(answer="Ann Lee"), row(answer="On Monday")])
    write_jsonl(data / "shortdep_cloze.jsonl", [row("shortdep_cloze", MASKS)] * 2)
    sweep = write_scripted_sweep(
        tmp_path,
        script={"answer": answer},
        sparse_attention_configs={"dense": None},
        benchmark_configs={"loogle": {"subsets": ["shortdep_qa", "shortdep_cloze"], "data": str(data)}},
        max_concurrent_runs=1,
    )

    done = submit(sweep)

    assert done.returncode == 0, done.stdout + done.stderr
    metrics = {path.name: json.loads((path / "metrics.json").read_text()) for path in results(sweep)}
    scores = (metrics["loogle_shortdep_qa"]["score"], metrics["loogle_shortdep_cloze"]["score"])
    assert scores == wanted


def test_bad_data_is_one_line(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path, benchmark_configs={"loogle": {"subsets": ["shortdep_qa"], "data": "nowhere"}})

    result = run_cli("plan", sweep)

    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert f"benchmark_configs.loogle: data: {tmp_path}/nowhere does not exist" in result.stderr
