import json
import time
from pathlib import Path
from typing import Any

import datasets
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpc_bench.benchmarks.metrics.aime import extract_answer
from hpc_bench.benchmarks.scoring import final_answer
from hpc_bench.benchmarks.suites.aime import Aime, Aime2024, Aime2025
from hpc_bench.errors import DatasetError, SweepError
from hpc_bench.hub_files import DEFAULT, data_files
from hpc_bench.values import HubRepo, Sample

YEARS = [Aime2024, Aime2025]


def row(year: type[Aime], problem: str, answer: Any) -> dict[str, Any]:
    if year is Aime2024:
        return {"ID": "2024-I-1", "Problem": problem, "Solution": "By hand.", "Answer": answer}
    return {"id": 0, "problem": problem, "answer": str(answer), "solution": "By hand.", "year": "2025"}


def sample(answer: str) -> Sample:
    return Sample("0", "", "q", (answer,), 32_000)


@pytest.mark.parametrize(
    ("prediction", "answer"),
    [
        (r"\boxed{204}", "204"),
        (r"so $\boxed{204}$. Check: 17", "204"),
        (r"\boxed{1}, no: \boxed{2}", "2"),
        (r"\boxed{033}", "33"),
        (r"\boxed{000}", "0"),
        (r"\boxed{0}", "0"),
        (r"\boxed{$204$}", "204"),
        (r"\boxed{\(204\)}", "204"),
        (r"\boxed{\text{204}}", "204"),
        (r"\boxed{\textbf{\text{204}}}", "204"),
        (r"\boxed{\mathbf{204}.}", "204"),
        (r"\boxed{204 \text{ degrees}}", "204"),
        (r"\boxed{336^\circ}", "336"),
        (r"\boxed{336^{\circ}}", "336"),
        (r"\boxed{ 2\,04 }", "204"),
        (r"\boxed {204}", "204"),
        (r"\boxed{{204}}", "204"),
        (r"\boxed{m + n = 204}", "204"),
        (r"\boxed{\boxed{204}}", "204"),
        (r"{a \{ \boxed{204} b", "204"),  # braces around it need not match
        (r"\boxed{7}, that is \boxed{20", "7"),  # cut off: the last box that is closed
        (r"\boxed{\$17}", "17"),
        (r"\boxed{{\bf 17}}", "17"),
        (r"\boxed{\displaystyle 17}", "17"),
        (r"\boxed{\bm{17}}", "17"),
        (r"\boxed{\left(17\right)}", "17"),
        (r"\boxed{(17)}", "17"),
        (r"\boxed{113.0}", "113"),
        (r"\boxed{5 ,}", "5"),
        (r"\boxed{17\\}", "17"),
        (r"\boxed{11\text{ or }5}", None),
        (r"\boxed{11, 5}", None),
        (r"\boxed{1000}", None),
        (r"\boxed{-5}", None),
        (r"\boxed{2.5}", None),
        (r"\boxed{\frac{1}{2}}", None),  # a box decides, also where it holds no integer
        (r"\boxed{x}, so 7", None),
        (r"\boxed{}", None),
        (r"\boxed{٢}", None),
        ("The answer is 204.", "204"),
        ("5\n\nThe answer is **204**.\n \n", "204"),
        ("It is 17 in 2024.", "17"),  # 2024 has four digits
        ("It is 007", "7"),
        ("It is -5 or 3.14 or 1,234", None),
        ("It is 12,13", "13"),
        ("It is (12,13)", "13"),
        ("It is 5-3", "3"),
        ("It is $1{,}234$", None),
        ("It is 1,234,567 of 8.5", None),
        ("204\nI am sure.", None),  # only the last line
        ("答案是204。", "204"),
        ("", None),
        (" \n", None),
        ("?!", None),
    ],
)
def test_extraction_by_hand(prediction: str, answer: str | None) -> None:
    assert extract_answer(prediction) == answer


@pytest.mark.parametrize(
    ("prediction", "answer"),
    [
        # Boxes.
        (r"\boxed{204}", "204"),
        (r"So $m+n=\boxed{204}$. Check: 17.", "204"),
        (r"\boxed{204} (in the form \boxed{...})", "204"),
        (r"\boxed{204}, written as \boxed{\ldots}", "204"),
        (r"\boxed{204} as \boxed{\text{your answer}}", "204"),
        (r"\boxed{204}, that is \boxed{20", "204"),
        (r"\boxed{7}, no: \boxed{204}", "204"),
        (r"\fbox{204}", "204"),
        (r"\boxed{\underline{204}}", "204"),
        (r"\boxed{\textcolor{red}{204}}", "204"),
        (r"\boxed{**204**}", "204"),
        (r"\boxed{+204}", "204"),
        (r"\boxed{204;}", "204"),
        (r"\boxed{002}", "2"),
        (r"\boxed{33.0}", "33"),
        (r"\boxed{204.00}", "204"),
        # What a box adds to the integer.
        (r"\boxed{204\pmod{1000}}", "204"),
        (r"\boxed{204 \bmod 1000}", "204"),
        (r"\boxed{204 \ (\text{mod } 1000)}", "204"),
        (r"\boxed{N \equiv 204 \pmod{1000}}", "204"),
        (r"\boxed{204_{10}}", "204"),
        (r"\boxed{204_7}", None),  # another base
        (r"\boxed{\approx 204}", "204"),
        (r"\boxed{x \approx 204}", "204"),
        (r"\boxed{204\%}", "204"),
        (r"\boxed{204%}", "204"),
        (r"\boxed{204 \text{ cm}^2}", "204"),
        (r"\boxed{204\,\mathrm{units}^{3}}", "204"),
        (r"\boxed{204 degrees}", "204"),
        (r"\boxed{\text{204 degrees}}", "204"),
        (r"\boxed{\text{The answer is 204}}", "204"),
        (r"\boxed{\text{Answer: }204}", "204"),
        (r"\boxed{204 = 12 \cdot 17}", "204"),
        (r"\boxed{m+n = 200 + 4 = 204}", "204"),
        # What is no integer from 0 to 999.
        (r"\boxed{204\pi}", None),
        (r"\boxed{204x}", None),
        (r"\boxed{2^{10}}", None),
        (r"\boxed{204!}", None),
        (r"\boxed{11 or 5}", None),
        (r"\boxed{3\mathbf{x}^2}", None),
        (r"\boxed{204.5}", None),
        # What the word "answer" announces.
        ("The answer is 204, since 7 is prime.", "204"),
        ("The answer is 204.\n**Confidence:** 95%", "204"),
        ("ANSWER: 204\n---", "204"),
        ("The answer is 204.0", "204"),
        ("The answer is 2.5", None),
        ("**Answer:** 204\n\nWe used 3 steps and 17 cases.", "204"),
        ("**Answer: $204$**\nIt took 5 minutes.", "204"),
        ("The answer is $m + n = 200 + 4 = 204$, as 7 is prime.", "204"),
        ("The answer is 5 + 199 = 204.", "204"),
        ("The answer is 204 = 12 * 17.", "204"),
        ("The answer is 1/2.", None),
        ("The answer is \\(204\\), because 7 is prime.", "204"),
        ("The answer is \\(\\mathbf{204}\\), with 7 left over.", "204"),
        ("The final answer to part 3 is approximately 204 (of 999).", "204"),
        ("The answer is 7. No, the answer is 204, as 8 is even.", "204"),
        ("The answer is the sum of 3 and 201, which is 204.", "204"),
        ("Final Answer:\n\n$204$\n\nI checked 5 cases.", "204"),
        ("The answer is 204. Fill it into \\boxed{}.", "204"),
        ("答案是204。\n共有3种情况。", "204"),
        # A last line alone.
        ("So it is 204.\nConfidence: 95%", "204"),
        ("It is 204 because 7 is prime.", "204"),
        ("Thus\n\\[\n204\n\\]", "204"),
        ("It is 204.0", "204"),
        ("Since 7 is prime, it is 204.", "204"),
        ("It is 1,204", None),
        ("The answer is 1204 mod 1000 = 204", "204"),
    ],
)
def test_clear_answers_are_read_in_whatever_words(prediction: str, answer: str | None) -> None:
    assert extract_answer(prediction) == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("<think>\\boxed{1} or 2</think>It is \\boxed{3}", "3"),
        ("<think>\\boxed{1}</think>It is 3", "3"),
        ("<think>\\boxed{1}</think>", None),
        ("<think>\\boxed{1}", None),  # never stopped thinking
    ],
)
def test_what_is_thought_is_no_answer(text: str, answer: str | None) -> None:
    assert extract_answer(final_answer(text)) == answer


@given(st.text() | st.text(alphabet="\\boxedtexhink{}/<>^cir$0123456789 \n.,=-", max_size=80))
@settings(max_examples=300, deadline=None)
def test_no_prediction_raises(prediction: str) -> None:
    answer = extract_answer(prediction)

    assert answer is None or 0 <= int(answer) <= 999


@pytest.mark.parametrize(
    "unit",
    [
        "7",
        "7.",
        " ",
        "\n",
        "{",
        "}",
        "\\boxed{",
        "\\boxed{1}",
        "\\boxed{}",
        "\\boxed ",
        "\\text{",
        "^{",
        "^ ",
        "</think>",
        "-",
        "answer is ",
        "answer to ",
        "a=",
        "=1",
        "(mod",
        "5 ",
    ],
)
@pytest.mark.parametrize("around", ["{}", "\\boxed{{{}}}"])
def test_a_megabyte_is_scored_at_once(unit: str, around: str) -> None:
    prediction = around.format(unit * (1_000_000 // len(unit)))

    started = time.process_time()
    extract_answer(prediction)

    assert time.process_time() - started < 1


def test_score_is_accuracy_beside_the_share_extracted() -> None:
    samples = [sample("33"), sample("5"), sample("7")]

    scores = Aime2024().score(samples, [r"\boxed{033}", r"\boxed{6}", "no idea"])

    assert scores.score == scores.metrics["accuracy"].value == 33.33
    assert scores.metrics["extracted"].value == 66.67
    assert scores.per_sample == (
        {"accuracy": 100.0, "extracted": 100.0},
        {"accuracy": 0.0, "extracted": 100.0},
        {"accuracy": 0.0, "extracted": 0.0},
    )


@pytest.mark.parametrize("year", YEARS)
@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_rows_to_scores(tmp_path: Path, year: type[Aime], suffix: str) -> None:
    rows, path = [row(year, "How many?", 33), row(year, "Which?", 204)], tmp_path / f"problems.{suffix}"
    if suffix == "parquet":
        datasets.Dataset.from_list(rows).to_parquet(str(path))
    else:
        path.write_text("".join(json.dumps(fields) + "\n" for fields in rows))
    benchmark = year(data=str(path))

    samples = benchmark.load(None, len)

    assert [(item.sample_id, item.context, item.references) for item in samples] == [
        ("0000", "", ("33",)),
        ("0001", "", ("204",)),
    ]
    assert samples[0].question.startswith("How many?\n\n")
    assert samples[0].question.endswith("\\boxed{}.")
    assert samples[0].max_new_tokens == benchmark.size(None).new_tokens == 32_000
    assert benchmark.score(samples, ["33", "204"]).score == 100.0
    assert benchmark.score(samples, ["no idea", "no idea"]).score == 0.0
    assert benchmark.score(samples, [r"\boxed{33}", r"\boxed{33}"]).score == 50.0


def test_label_may_wear_latex() -> None:
    assert Aime2025().to_sample(0, row(Aime2025, "Which angle?", r"336^\circ"), None).references == ("336",)


@pytest.mark.parametrize("answer", ["x", "1000", "", "None"])
def test_label_that_is_no_answer_is_refused(answer: str) -> None:
    with pytest.raises(DatasetError, match=f"the answer '{answer}' is no integer from 0 to 999"):
        Aime2025().to_sample(4, row(Aime2025, "Which?", answer), None)


def test_columns_of_another_year_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "problems.jsonl"
    path.write_text(json.dumps(row(Aime2025, "Which?", 5)))

    with pytest.raises(DatasetError, match="lacks Problem, Answer"):
        Aime2024(data=str(path)).load(None, len)


@pytest.mark.parametrize(("year", "name"), [(Aime2024, "Maxwell-Jia/AIME_2024"), (Aime2025, "yentinglin/aime_2025")])
def test_hub_data_is_the_train_split_of_the_only_configuration(year: type[Aime], name: str) -> None:
    assert year(revision="abc").hub_data(None) == HubRepo("dataset", name, "abc", DEFAULT, "train")


def test_files_of_both_data_sets_are_found_on_the_hub() -> None:
    on_top = [".gitattributes", "README.md", "aime_2024_problems.parquet"]
    in_folder = [".gitattributes", "README.md", "data/train-00000-of-00001.parquet"]
    card = {"configs": [{"config_name": DEFAULT, "data_files": [{"split": "train", "path": "data/train-*"}]}]}

    assert data_files(on_top, {}, DEFAULT, "train") == ["aime_2024_problems.parquet"]
    assert data_files(in_folder, card, DEFAULT, "train") == ["data/train-00000-of-00001.parquet"]
    assert data_files(in_folder, {}, DEFAULT, "train") == ["data/train-00000-of-00001.parquet"]


def test_there_are_no_subsets() -> None:
    with pytest.raises(SweepError, match="has no subsets"):
        Aime2025().size("hard")
