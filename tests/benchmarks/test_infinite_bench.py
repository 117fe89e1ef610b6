import json
import re
import time
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpc_bench.benchmarks.suites.infinite_bench import InfiniteBench
from hpc_bench.errors import DatasetError, SweepError
from hpc_bench.values import HubRepo, Sample

CHOICES = "Who is it?\n\nOptions:\nA. load_all\nB. parse_row\nC. the cellar\nD. B side"
LABELS: dict[str, Any] = {
    "passkey": ["71432"],
    "number_string": ["2200012222"],
    "kv_retrieval": ["00a0-bcb"],
    "longbook_sum_eng": ["Ann met Bob.\nThey sailed home."],
    "longbook_choice_eng": ["C"],
    "longbook_qa_eng": ["the red house", '"Peyton"'],
    "longbook_qa_chn": ["红楼梦"],
    "longdialogue_qa_eng": ["ACE", "ACE ROTHSTEIN"],
    "math_find": ["42"],
    "math_calc": ["1", "4", "8", "0"],
    "code_run": ["-5"],
    "code_debug": ["B"],
}
NEW_TOKENS = {
    "passkey": 6,
    "number_string": 12,
    "kv_retrieval": 50,
    "longbook_sum_eng": 1200,
    "longbook_choice_eng": 40,
    "longbook_qa_eng": 40,
    "longbook_qa_chn": 40,
    "longdialogue_qa_eng": 40,
    "math_find": 3,
    "math_calc": 30000,
    "code_run": 5,
    "code_debug": 5,
}
HALF = {
    "longbook_sum_eng": ("Ann met Bob.", 200 * 3 / 9),  # 3 words, all of them among 6
    "longbook_qa_eng": ("a blue house", 50.0),  # 1 of 2 said, 1 of 2 wanted
    "longbook_qa_chn": ("红西", 40.0),  # 1 of 2 said, 1 of 3 wanted
    "math_calc": ("[1, 4, 9, 0]", 50.0),  # nothing counts behind the first mistake
}


def row(subset: str, answer: Any = None, **changes: Any) -> dict[str, Any]:
    fields = {
        "context": "A long text.\n\n",
        "question": CHOICES if subset in ("code_debug", "longbook_choice_eng") else "What is it?",
        "answer_prefix": "Answer:",
        "answer": LABELS[subset] if answer is None else answer,
        "task": subset,
        "max_new_tokens": NEW_TOKENS[subset] + 20,
    }
    return {**fields, **changes}


def sample_of(subset: str, answer: Any = None, **changes: Any) -> Sample:
    return InfiniteBench().to_sample(0, row(subset, answer, **changes), subset)


def score(subset: str, prediction: str, answer: Any = None) -> float:
    scores = InfiniteBench().score([sample_of(subset, answer)], [prediction])
    assert scores.score is not None
    return scores.score


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    if path.suffix == ".parquet":
        datasets.Dataset.from_list(rows).to_parquet(str(path))
    else:
        path.write_text("".join(json.dumps(fields, ensure_ascii=False) + "\n" for fields in rows), encoding="utf-8")


@pytest.mark.parametrize(
    ("subset", "prediction", "right"),
    [
        ("passkey", "71432.", True),
        ("passkey", "The pass key is 71432, not 9", True),
        ("passkey", "9 or 71432", False),  # only the first number counts
        ("passkey", "714321", False),
        ("passkey", "071432", False),  # compared as text
        ("passkey", "七万", False),
        ("passkey", "٧١٤٣٢", False),  # ASCII digits alone
        ("number_string", "is 2200012222 2200012222", True),
        ("number_string", "220001222", False),
        ("kv_retrieval", '"00a0-bcb".', True),
        ("kv_retrieval", "key:00a0-bcb!", True),
        ("kv_retrieval", "(00a0-bcb)", False),  # brackets belong to the word
        ("kv_retrieval", "00A0-BCB", False),
        ("longdialogue_qa_eng", "it is 'Ace'.", True),
        ("longdialogue_qa_eng", "Ace Rothstein", True),
        ("longdialogue_qa_eng", "Rothstein", False),  # a part of the second label alone
        ("longdialogue_qa_eng", "Aces", True),  # a part of a word is enough
        ("longdialogue_qa_eng", "A C E", False),
        ("code_run", "-5", True),
        ("code_run", "The return value is: `-5`.", True),
        ("code_run", "-5 or 5", False),  # the last word counts
        ("code_run", "-5.0", False),  # a dot parts words
        ("code_run", "five", False),
        ("math_find", "42", True),
        ("math_find", "it's 42.", True),
        ("math_find", "42.0", True),
        ("math_find", "42.5", False),
        ("math_find", "7 42", False),
        ("math_find", "none", False),
    ],
)
def test_exact_matches_by_hand(subset: str, prediction: str, right: bool) -> None:
    assert score(subset, prediction) == 100.0 * right


@pytest.mark.parametrize(
    ("prediction", "right"),
    [("Bill Ecker", True), ("It is commander ecker.", True), ("Commander Bill", False)],
)
def test_dialogue_answer_holds_any_of_the_names(prediction: str, right: bool) -> None:
    assert score("longdialogue_qa_eng", prediction, ["COMMANDER ECKER", "Ecker"]) == 100.0 * right


@pytest.mark.parametrize(
    ("prediction", "right"),
    [
        ("B", True),
        (" B. parse_row", True),
        ("\n\nB.", True),
        ("B: because", True),
        ("Answer: B", True),
        ("Answer:B", True),
        ("A or B", True),  # the last lone letter of a line
        ("B or A", True),  # not that, but the answer starts with it
        ("It is B or A", False),
        ("It is B\nor A", True),  # of the first line that has one
        ("It is A\nor B", False),
        ("J", False),  # a letter, though no option
        ("Say B, not J", False),
        ("Say B, not K", True),  # K is no letter here
        ("Say B_, B1 or AB", False),  # none is alone
        ("Bravo", True),  # starts with the letter
        ("A. load_all. The answer is: B", True),
        ("The correct option is: Option Bravo", True),
        ("The error is: `parse_row`", True),
        ("parse_row", True),
        ("Option parse_row", False),  # the word leaves a space behind
        ("load_all, not parse_row", False),
        ("is:Bravo", False),  # one character behind the prefix is skipped
        ("the answer is: *parse_row*", True),
        ("The answer is:", False),
        ("answer: A", False),
    ],
)
def test_code_debug_by_hand(prediction: str, right: bool) -> None:
    assert score("code_debug", prediction) == 100.0 * right


@pytest.mark.parametrize(
    ("prediction", "right"),
    [
        ("C", True),
        ("Cellar", True),  # the first letter alone
        ("B. C", True),  # the last lone letter of a line
        ("C. B", True),  # not that, but the first letter
        ("B.\nC", False),  # the first line that has one counts, and the first letter
        ("I say B\nor C", False),
        (" C", True),
        ("\n\nC.", True),
        ("the cellar", True),  # the option's text
        ("In the cellar", False),
        ("the cellar.", False),
        ("'C'", True),
        ("the answer is C", True),
        ("the answer is: the cellar", True),
        ("The best option is B, not C", True),  # the last
        ("The best option is C, not B", True),  # behind the prefix
        ("The best option is B\nand not C", False),
        ("My answer is", False),
        ("I say C, not B", True),  # the first that is a word of its own
        ("I say C, AB, B", True),
        ("say AB or C", True),
        ("say AB, C or B", False),  # AB is looked up in ABCD, as the official code does
        ("not sure", False),
        ("丙", False),
    ],
)
def test_longbook_choice_by_hand(prediction: str, right: bool) -> None:
    assert score("longbook_choice_eng", prediction) == 100.0 * right


def test_option_that_starts_with_another_letter_is_no_choice() -> None:
    assert score("longbook_choice_eng", "B side", ["D"]) == 0.0
    assert score("longbook_choice_eng", "the answer is B side", ["D"]) == 100.0


@given(text=st.text(alphabet="ABJ _1é.\n\r\u2028", max_size=12), letter=st.sampled_from("ABCD"))
@settings(max_examples=300, deadline=None)
def test_letter_is_the_one_that_the_official_pattern_finds(text: str, letter: str) -> None:
    """The pattern reads on to the line's end from every letter; no other rule finds anything behind the hyphen."""
    found = re.search(r"\b[A-J]\b(?!.*\b[A-J]\b)", text)

    assert score("code_debug", f"-{text}", [letter]) == 100.0 * (found is not None and found[0] == letter)


@pytest.mark.parametrize(
    ("subset", "prediction", "expected"),
    [
        ("longbook_qa_eng", "The Red House!", 100.0),
        ("longbook_qa_eng", "peyton", 100.0),  # the second reference
        ("longbook_qa_eng", "red big house", 80.0),  # 2 of 3 said, 2 of 2 wanted
        ("longbook_qa_chn", "「红楼梦」。", 100.0),
        ("longbook_qa_chn", "《红楼梦》。", 600 / 7),  # the official list of punctuation has 》 without 《
        ("longbook_qa_chn", "红 楼", 80.0),  # 2 of 2 said, 2 of 3 wanted
        ("longbook_qa_chn", "梦楼红", 100.0),  # a bag of characters
        ("longbook_qa_chn", "西游记", 0.0),
        ("longbook_sum_eng", "ann met bob\nthey sailed home", 100.0),
        ("longbook_sum_eng", "They sailed home.\nAnn met Bob.", 100.0),  # by sentence, in any order
        ("longbook_sum_eng", "Bob met Ann", 100 * 2 / 9),  # 1 word in order: 1 of 3 said, 1 of 6 wanted
        ("longbook_sum_eng", "They sail home", 100 * 4 / 9),  # not stemmed: 2 of 3 said, 2 of 6 wanted
        ("longbook_sum_eng", "安遇见鲍勃", 0.0),
        ("math_calc", "[1, 4, 8, 0]", 100.0),
        ("math_calc", "01 4 8 00 and 77", 100.0),
        ("math_calc", "[1, 4", 50.0),
        ("math_calc", "[2, 4, 8, 0]", 0.0),
    ],
)
def test_shares_by_hand(subset: str, prediction: str, expected: float) -> None:
    assert score(subset, prediction) == pytest.approx(expected)


@pytest.mark.parametrize("subset", LABELS)
@pytest.mark.parametrize("prediction", ["", " \n", "?!.,:;'\"{}", "。，！"])  # noqa: RUF001
def test_nothing_said_is_wrong(subset: str, prediction: str) -> None:
    assert score(subset, prediction) == 0.0


@pytest.mark.parametrize("subset", LABELS)
@given(prediction=st.text() | st.text(alphabet="ABCD answeri:.0123456789\n\\{}[]-", max_size=60))
@settings(max_examples=60, deadline=None)
def test_no_prediction_raises_or_leaves_the_scale(subset: str, prediction: str) -> None:
    assert 0 <= score(subset, prediction) <= 100


@pytest.mark.parametrize("subset", LABELS)
@pytest.mark.parametrize("unit", ["7", "7.", "a ", "A ", "A\n", "\n", "\\", "answer is:", "{"])
def test_a_megabyte_is_scored_at_once(subset: str, unit: str) -> None:
    sample, prediction = sample_of(subset), unit * (1_000_000 // len(unit))
    InfiniteBench().score([sample], ["a"])  # libraries are loaded once

    started = time.process_time()
    InfiniteBench().score([sample], [prediction])

    assert time.process_time() - started < 1


@pytest.mark.parametrize(
    ("subset", "label", "references"),
    [
        ("passkey", ["71432"], ("71432",)),
        ("passkey", np.array(["71432"]), ("71432",)),
        ("passkey", 71432, ("71432",)),
        ("passkey", "071", ("071",)),
        ("code_run", np.int64(-5), ("-5",)),
        ("math_find", 42.0, ("42",)),
        ("math_find", [4.5], ("4.5",)),
        ("math_calc", [1, 4, 8], ("[1, 4, 8]",)),
        ("math_calc", np.array([1, 4, 8]), ("[1, 4, 8]",)),
        ("math_calc", [["1", "4"]], ("[1, 4]",)),
        ("math_calc", "[1, 4, -8]", ("[1, 4, -8]",)),
        ("math_calc", 7, ("[7]",)),
        ("longdialogue_qa_eng", np.array(["ACE", "ACE ROTHSTEIN"], object), ("ACE", "ACE ROTHSTEIN")),
        ("longbook_qa_eng", "the red house", ("the red house",)),
        ("code_debug", ["B"], ("B. parse_row",)),
        ("code_debug", "B", ("B. parse_row",)),
        ("code_debug", ["parse_row"], ("B. parse_row",)),
        ("code_debug", np.array(["parse_row", "B"]), ("B. parse_row",)),
        ("longbook_choice_eng", ["B side"], ("D. B side",)),
    ],
)
def test_labels_come_as_list_array_or_scalar(subset: str, label: Any, references: tuple[str, ...]) -> None:
    assert sample_of(subset, label).references == references


@pytest.mark.parametrize(
    ("subset", "question", "answer_prefix", "asked"),
    [
        ("passkey", "What is the pass key?", "The pass key is:", "What is the pass key?\n\n"),
        ("longbook_choice_eng", CHOICES, "The letter of the correct answer is", f"{CHOICES}\n\n"),
        ("longbook_qa_eng", "Who?", "Answer:", "Who?\n"),
        ("longbook_qa_chn", "谁？", "答案：", "谁？\n"),  # noqa: RUF001
        ("code_run", "What is func_1(2)?", "The return value is:", "What is func_1(2)? "),
        ("kv_retrieval", 'Key: "a"\n ', "The value is", 'Key: "a"\n '),  # parted already
        ("passkey", "What is the pass key?", "", "What is the pass key?"),
        ("math_calc", "", "Values:", ""),  # the context ends in an empty line
        # A blank at the end of a question or an option parts nothing.
        ("passkey", "What is the pass key? ", "The pass key is:", "What is the pass key? \n\n"),
        ("longbook_choice_eng", f"{CHOICES} ", "The letter of the correct answer is", f"{CHOICES} \n\n"),
        ("code_debug", f"{CHOICES}\n", "The correct option is:", f"{CHOICES}\n\n\n"),  # the break is the option's
        ("code_run", "What is func_1(2)? ", "The return value is:", "What is func_1(2)? "),
    ],
)
def test_question_and_answer_prefix_are_parted_as_in_the_official_prompts(
    subset: str, question: str, answer_prefix: str, asked: str
) -> None:
    sample = sample_of(subset, question=question, answer_prefix=answer_prefix)

    assert (sample.question, sample.answer_prefix) == (asked, answer_prefix)


@pytest.mark.parametrize(
    ("label", "reference"),
    [
        (["the red\nhouse"], "A. the red\nhouse"),
        (["A"], "A. the red\nhouse"),
        (["9 "], "D. 9 "),
        (["twice"], "B. twice"),
    ],
)
def test_option_may_have_line_breaks_and_blanks(label: list[str], reference: str) -> None:
    question = "Who?\n\nTell me the letter (A, B, C or D).\nA. the red\nhouse\nB. twice\nC. twice\nD. 9 "

    assert sample_of("longbook_choice_eng", label, question=question).references == (reference,)


@pytest.mark.parametrize(
    ("prediction", "right"),
    [("the red\nhouse", True), ("the answer is the red", False), ("A", True), ("the red", False)],
)
def test_option_with_a_line_break_is_known_by_all_of_its_text(prediction: str, right: bool) -> None:
    question = "Who?\nA. the red\nhouse\nB. the blue\nhouse\nC. the cellar\nD. none\n\nSay one letter."
    sample = sample_of("longbook_choice_eng", ["A"], question=question)

    assert InfiniteBench().score([sample], [prediction]).score == 100.0 * right


def test_option_without_its_text_is_known_by_its_letter() -> None:
    assert sample_of("code_debug", ["B"], question="Which?").references == ("B. ",)


@pytest.mark.parametrize(
    ("subset", "label"),
    [("passkey", "abc"), ("code_run", "4.5"), ("math_find", "x"), ("math_calc", ["1", "b"]), ("code_debug", "main")],
)
def test_label_of_another_kind_is_refused_by_subset(subset: str, label: Any) -> None:
    with pytest.raises(DatasetError, match=f"the answer .* of {subset} is not of the form"):
        sample_of(subset, label)


def test_missing_label_is_refused() -> None:
    with pytest.raises(DatasetError, match="of longbook_qa_eng is not of the form"):
        sample_of("longbook_qa_eng", [])


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
@pytest.mark.parametrize("subset", LABELS)
def test_rows_to_scores(tmp_path: Path, subset: str, suffix: str) -> None:
    write(tmp_path / f"{subset}.{suffix}", [row(subset), row(subset, context="Another text.")])
    benchmark = InfiniteBench(data=str(tmp_path))

    samples = benchmark.load(subset, len)
    right = [sample.references[0] for sample in samples]
    half, mean = HALF.get(subset, ("no idea", 0.0))

    assert [(sample.sample_id, sample.max_new_tokens) for sample in samples] == [
        ("0000", NEW_TOKENS[subset]),
        ("0001", NEW_TOKENS[subset]),
    ]
    assert samples[0].answer_prefix == "Answer:"
    assert benchmark.score(samples, right).score == 100.0
    assert benchmark.score(samples, ["no idea", "no idea"]).score == 0.0
    assert benchmark.score(samples, [right[0], "no idea"]).score == 50.0
    assert benchmark.score(samples, [half, half]).score == pytest.approx(mean)


@pytest.mark.parametrize(
    ("subset", "metric"), [("passkey", "accuracy"), ("longbook_sum_eng", "rougeLsum"), ("math_calc", "correct_prefix")]
)
def test_scores_are_named_and_not_rounded(subset: str, metric: str) -> None:
    samples = [sample_of(subset)] * 3

    scores = InfiniteBench().score(samples, [samples[0].references[0], "", ""])

    assert scores.score == scores.metrics[metric].value == 100 / 3
    assert [line[metric] for line in scores.per_sample] == [100.0, 0.0, 0.0]


def test_subsets_and_limits_are_the_official_ones() -> None:
    assert set(InfiniteBench.subsets) == set(NEW_TOKENS)
    assert {name: InfiniteBench().size(name).new_tokens for name in NEW_TOKENS} == NEW_TOKENS


def test_hub_data_is_the_subsets_configuration() -> None:
    expected = HubRepo("dataset", "MaxJeblick/InfiniteBench", "abc", "passkey", "test")

    assert InfiniteBench(revision="abc").hub_data("passkey") == expected


def test_missing_column_names_expected_and_found(tmp_path: Path) -> None:
    fields = row("passkey")
    del fields["answer"]
    write(tmp_path / "passkey.jsonl", [fields])

    with pytest.raises(DatasetError, match=r"lacks answer \(columns expected: context, .*; found: context, question"):
        InfiniteBench(data=str(tmp_path)).load("passkey", len)


def test_a_subset_must_be_named() -> None:
    with pytest.raises(SweepError, match="needs one of the subsets passkey, "):
        InfiniteBench().size(None)
