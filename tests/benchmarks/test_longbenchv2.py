import json
from pathlib import Path
from typing import Any

import datasets
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpc_bench.benchmarks.suites.longbenchv2 import LongBenchV2, extract_choice
from hpc_bench.errors import DatasetError, SweepError
from hpc_bench.values import HubRepo, Sample


def row(answer: str = "B", difficulty: str = "easy", length: str = "short") -> dict[str, Any]:
    """A row in the columns of the data set."""
    return {
        "_id": "66f36490",
        "domain": "Single-Document QA",
        "sub_domain": "Financial",
        "difficulty": difficulty,
        "length": length,
        "question": "What is the correct answer to this question: Who?\nChoices:\n(A) a\n(B) b\n(C) c\n(D) d\n\n",
        "choice_A": "a",
        "choice_B": "b",
        "choice_C": "c",
        "choice_D": "d",
        "answer": answer,
        "context": "Please read the following text and answer the question below.\n\n<text>\nx\n</text>\n\n",
        "answer_prefix": 'Format your response as follows: "The correct answer is (insert answer here)".',
        "task": "0shot",
        "max_new_tokens": 148,
    }


@pytest.mark.parametrize(
    ("prediction", "choice"),
    [
        ("The correct answer is (B)", "B"),
        ("The correct answer is B.", "B"),
        ("**The correct answer is (B)**, since", "B"),
        ("The correct answer is **(C)**", "C"),
        ("The correct answer is A. No: The correct answer is (D)", "D"),  # brackets are looked for first
        ("The correct answer is (A) or The correct answer is (B)", "A"),
        ("The correct answer is (E)", None),
        ("The correct answer is Apples", "A"),
        ("the correct answer is (B)", None),
        ("(B)", None),
        ("B", None),
        ("", None),
        ("?!", None),
        ("正确答案是B", None),
    ],
)
def test_choice_is_what_follows_the_words_asked_for(prediction: str, choice: str | None) -> None:
    assert extract_choice(prediction) == choice


@given(st.text() | st.sampled_from(["The correct answer is " * 50_000, "7" * 1_000_000, "*" * 1_000_000]))
def test_any_prediction_is_judged(prediction: str) -> None:
    assert extract_choice(prediction) is None


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_right_wrong_and_missing_choices_by_group(tmp_path: Path, form: str) -> None:
    rows = [row("B"), row("A", "hard"), row("C", "hard", "long"), row("D", "hard", "long")]
    if form == "jsonl":
        (tmp_path / "0shot.jsonl").write_text("".join(json.dumps(fields) + "\n" for fields in rows))
    else:
        datasets.Dataset.from_list(rows).to_parquet(str(tmp_path / "0shot.parquet"))
    benchmark = LongBenchV2(data=str(tmp_path))
    samples = benchmark.load("0shot", len)

    scores = benchmark.score(
        samples,
        ["The correct answer is (B)", "The correct answer is (B)", "The correct answer is C", "I do not know D"],
    )

    assert scores.score == 50.0
    assert {name: metric.value for name, metric in scores.metrics.items()} == {"accuracy": 50.0, "extracted": 75.0}
    assert scores.by == {"difficulty": {"easy": 100.0, "hard": 33.3}, "length": {"long": 50.0, "short": 50.0}}
    assert [line["accuracy"] for line in scores.per_sample] == [100.0, 0.0, 100.0, 0.0]


@pytest.mark.parametrize(("subset", "new_tokens"), [("0shot", 128), ("cot", 1024)])
def test_prompt_ends_with_the_instruction_in_the_message_of_the_user(subset: str, new_tokens: int) -> None:
    sample = LongBenchV2().to_sample(7, row(), subset)

    assert sample.question.endswith(
        '(D) d\n\nFormat your response as follows: "The correct answer is (insert answer here)".'
    )
    assert (sample.answer_prefix, sample.chat, sample.stop_strings) == ("", True, ())
    assert (sample.sample_id, sample.references, sample.max_new_tokens) == ("0007", ("B",), new_tokens)
    assert sample.extra == {"difficulty": "easy", "length": "short"}
    assert LongBenchV2().size(subset).new_tokens == new_tokens


def test_answer_that_is_no_letter_is_refused() -> None:
    with pytest.raises(DatasetError, match="answer 'b', which is none of A, B, C, D"):
        LongBenchV2().to_sample(0, row("b"), "cot")


def test_subset_is_needed() -> None:
    with pytest.raises(SweepError, match="0shot, cot"):
        LongBenchV2().size(None)


def test_hub_data_is_named_by_subset() -> None:
    assert LongBenchV2(revision="abc").hub_data("cot") == HubRepo("dataset", "Xnhyacinth/LongBench-v2", "abc", "cot")


def test_an_empty_answer_is_wrong_and_counted() -> None:
    samples = [Sample(str(place), "c", "q", ("B",), 8, task="0shot") for place in range(2)]

    assert LongBenchV2().score(samples, ["The correct answer is (B)", ""]).score == 50.0


def test_a_sample_without_its_group_is_counted_all_the_same() -> None:
    scores = LongBenchV2().score([Sample("0", "c", "q", ("B",), 8, task="cot")], ["The correct answer is (B)"])

    assert scores.score == 100.0
