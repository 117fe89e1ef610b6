import json
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest

from hpc_bench.benchmarks.metrics.qa_f1 import best_qa_f1, normalize_answer, qa_f1
from hpc_bench.benchmarks.suites.longbench import LongBench
from hpc_bench.errors import DatasetError, SweepError
from hpc_bench.values import HubRepo, Sample
from tests.support.benchmark_rows import write_jsonl

NEW_TOKENS = {
    "narrativeqa": 128,
    "qasper": 128,
    "multifieldqa_en": 64,
    "multifieldqa_zh": 64,
    "hotpotqa": 32,
    "2wikimqa": 32,
    "musique": 32,
    "dureader": 128,
    "gov_report": 512,
    "qmsum": 512,
    "multi_news": 512,
    "vcsum": 512,
    "trec": 64,
    "triviaqa": 32,
    "samsum": 128,
    "lsht": 64,
    "passage_count": 32,
    "passage_retrieval_en": 32,
    "passage_retrieval_zh": 32,
    "lcc": 64,
    "repobench-p": 64,
}
EXTENDED = (
    *("qasper", "multifieldqa_en", "hotpotqa", "2wikimqa", "gov_report", "multi_news", "trec", "triviaqa", "samsum"),
    *("passage_count", "passage_retrieval_en", "lcc", "repobench-p"),
)
BARE = {"trec", "triviaqa", "samsum", "lsht", "lcc", "repobench-p"}

# A reference, an answer that is half right and its score; by metric, as the authors assign them.
QA = ("red house", "red barn", 50.0)
QA_ZH = ("北京大学", "我们在北京大学", 50.0)
ROUGE = ("the cat sat down", "the cat", 66.67)
ROUGE_ZH = ("我们在北京大学", "北京大学", 50.0)
CODE = ("foobar", "barfoo", 50.0)
GOLDEN = {
    **dict.fromkeys(["narrativeqa", "qasper", "multifieldqa_en", "hotpotqa", "2wikimqa", "musique", "triviaqa"], QA),
    "multifieldqa_zh": QA_ZH,
    **dict.fromkeys(["gov_report", "qmsum", "multi_news", "samsum"], ROUGE),
    **dict.fromkeys(["dureader", "vcsum"], ROUGE_ZH),
    "trec": ("city", "city or country", 50.0),
    "lsht": ("体育", "体育、财经", 50.0),
    "passage_count": ("12", "12 or 7", 50.0),
    "passage_retrieval_en": ("Paragraph 12", "Paragraph 12 or 7", 50.0),
    "passage_retrieval_zh": ("段落12", "段落12或段落7", 50.0),
    **dict.fromkeys(["lcc", "repobench-p"], CODE),
}
CLASSES = {"trec": ["city", "country"], "lsht": ["体育", "财经"]}
ALL_SUBSETS = (*NEW_TOKENS, *(f"{name}_e" for name in EXTENDED))


def row(context: str = "A long text.", question: str = "Who?", task: str = "qasper", **changes: Any) -> dict[str, Any]:
    fields = {
        "context": context,
        "question": question,
        "answer_prefix": "Answer:",
        "answers": ["Ann", "Ann Lee"],
        "all_classes": None,
        "length": 1234,
        "task": task,
        "max_new_tokens": 999,
    }
    return {**fields, **changes}


@pytest.mark.parametrize(
    ("prediction", "reference", "f1"),
    [
        ("The Eiffel Tower!", "eiffel tower", 1.0),
        ("the red house", "red big house", 0.8),  # 2 of 2 words said, 2 of 3 words wanted
        ("Paris, in France", "Paris", 0.5),  # 1 of 3 said, 1 of 1 wanted
        ("yes yes yes", "yes yes", 0.8),  # repeated words count as often as both have them
        ("London", "Paris", 0.0),
        ("", "Paris", 0.0),
        ("the", "a", 0.0),  # nothing is left of either
        ("U.S.A.", "usa", 1.0),
        ("café", "cafe", 0.0),
    ],
)
def test_qa_f1_by_hand(prediction: str, reference: str, f1: float) -> None:
    assert qa_f1(prediction, reference) == pytest.approx(f1)


def test_normalized_answer_has_no_articles_punctuation_or_case() -> None:
    assert normalize_answer("  The CAT,\tan  Owl's a-theme ") == "cat owls atheme"


def test_best_reference_counts() -> None:
    assert best_qa_f1("Ann Lee", ["Bob", "Ann", "Ann Lee"]) == 1.0
    assert best_qa_f1("Ann Lee", ["Bob", "Ann"]) == pytest.approx(2 / 3)
    assert best_qa_f1("Ann Lee", []) == 0.0


def test_score_is_the_rounded_mean() -> None:
    samples = [Sample(str(i), "c", "q", ("Ann", "Ann Lee"), 32, task="qasper") for i in range(3)]

    scores = LongBench().score(samples, ["Ann Lee", "Bob", "Bob Ann"])

    assert scores.score == scores.metrics["qa_f1"].value == 55.56
    assert [line["qa_f1"] for line in scores.per_sample] == pytest.approx([100, 0, 200 / 3])


@pytest.mark.parametrize(("task", "score"), [("triviaqa", 100.0), ("qasper", 40.0)])
def test_only_few_shot_answers_are_cut_to_their_first_line(task: str, score: float) -> None:
    sample = Sample("0", "c", "q", ("Ann",), 32, task=task)

    assert LongBench().score([sample], ["\n\nAnn\nQuestion: Who else?"]).score == score


@pytest.mark.parametrize("kind", ["jsonl", "parquet", "saved", "folder of jsonl"])
def test_local_data_in_every_form(tmp_path: Path, kind: str) -> None:
    rows = [row("text A", "q0"), row("text B", "q1"), row("text A", "q2")]
    if kind == "jsonl":
        write_jsonl(tmp_path / "qasper.jsonl", rows)
    elif kind == "parquet":
        datasets.Dataset.from_list(rows).to_parquet(str(tmp_path / "qasper.parquet"))
    elif kind == "saved":
        datasets.Dataset.from_list(rows).save_to_disk(str(tmp_path / "qasper"))
    else:
        write_jsonl(tmp_path / "qasper" / "1.jsonl", rows[:2])
        write_jsonl(tmp_path / "qasper" / "2.jsonl", rows[2:])

    samples = LongBench(data=str(tmp_path)).load("qasper", len)

    assert [(s.sample_id, s.context, s.question) for s in samples] == [
        ("0000", "text A", "q0"),
        ("0002", "text A", "q2"),
        ("0001", "text B", "q1"),
    ]
    assert samples == LongBench(data=str(tmp_path)).load("qasper", len)
    assert samples[0].references == ("Ann", "Ann Lee")
    assert samples[0].extra == {"length": 1234}


@pytest.mark.parametrize("kind", ["jsonl", "saved"])
def test_one_file_for_all_subsets_is_split_by_its_task_column(tmp_path: Path, kind: str) -> None:
    rows = [row(task="musique"), row(task="qasper"), row(task="musique")]
    data = tmp_path / "all.jsonl"
    if kind == "jsonl":
        write_jsonl(data, rows)
    else:
        data = tmp_path / "all"
        datasets.DatasetDict(test=datasets.Dataset.from_list(rows)).save_to_disk(str(data))

    benchmark = LongBench(data=str(data))

    assert [sample.sample_id for sample in benchmark.load("musique", len)] == ["0000", "0002"]
    with pytest.raises(DatasetError, match=r"no rows of task hotpotqa \(has: musique, qasper\)"):
        benchmark.load("hotpotqa", len)


def test_subsets_are_those_of_both_benchmarks() -> None:
    assert LongBench.subsets == ALL_SUBSETS
    assert len(ALL_SUBSETS) == 34


@pytest.mark.parametrize("subset", ALL_SUBSETS)
def test_official_limits_win_over_the_column_and_few_shot_tasks_go_without_chat(tmp_path: Path, subset: str) -> None:
    name = subset.removesuffix("_e")
    write_jsonl(tmp_path / f"{subset}.jsonl", [row(task=subset, all_classes=["Ann"])])

    (sample,) = LongBench(data=str(tmp_path)).load(subset, len)

    assert sample.max_new_tokens == NEW_TOKENS[name] == LongBench().size(subset).new_tokens
    assert sample.chat is (name not in BARE)
    assert (sample.stop_strings, sample.min_new_tokens) == ((("\n",), 1) if name == "samsum" else ((), 0))


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
@pytest.mark.parametrize("subset", ALL_SUBSETS)
def test_right_wrong_and_half_right_answers(tmp_path: Path, subset: str, form: str) -> None:
    name = subset.removesuffix("_e")
    right, half, half_score = GOLDEN[name]
    fields = row(task=subset, answers=["no such answer", right], all_classes=CLASSES.get(name))
    rows = [{**fields, "length": length} for length in (3_999, 4_000, 7_999)]
    if form == "jsonl":
        write_jsonl(tmp_path / f"{subset}.jsonl", rows)
    else:
        datasets.Dataset.from_list(rows).to_parquet(str(tmp_path / f"{subset}.parquet"))
    benchmark = LongBench(data=str(tmp_path))
    samples = benchmark.load(subset, len)

    scores = benchmark.score(samples, [right, "%", half])

    third = round(half_score / 3, 2)
    assert scores.score == pytest.approx(33.33 + third, abs=0.02)
    (metric,) = scores.metrics
    assert [line[metric] for line in scores.per_sample] == pytest.approx([100, 0, half_score], abs=0.005)
    bins = {"length": {"0-4k": 100.0, "4-8k": pytest.approx(half_score / 2, abs=0.01)}}
    assert scores.by == (bins if subset.endswith("_e") else {})


def test_length_bins_are_rounded_means_and_absent_when_empty() -> None:
    samples = [
        Sample(str(n), "c", "q", ("Ann",), 32, task="qasper_e", extra={"length": n}) for n in (3_999, 8_000, 9_000, 1e5)
    ]

    scores = LongBench().score(samples, ["Bob", "Ann", "Ann", "Bob"])

    assert scores.by == {"length": {"0-4k": 0.0, "8k+": 66.67}}
    assert scores.score == 50.0


@pytest.mark.parametrize("task", ["trec", "triviaqa", "samsum", "lsht"])
def test_few_shot_answers_are_their_first_line(task: str) -> None:
    right, _, _ = GOLDEN[task]
    extra: dict[str, Any] = {"all_classes": CLASSES.get(task)}
    samples = [Sample("0", "c", "q", (right,), 32, task=task, extra=extra)] * 2

    scores = LongBench().score(samples, [f"\n\n{right}\ncountry 财经 or more", f" \n{right}"])

    assert scores.score == pytest.approx(50.0)


def test_answers_come_as_list_array_or_scalar() -> None:
    forms: list[Any] = [["12"], np.array(["12"]), ("12",), "12", 12, np.int64(12), np.array(12), [12]]

    samples = [LongBench().to_sample(0, row(answers=form), "passage_count") for form in forms]

    assert {sample.references for sample in samples} == {("12",)}


def test_classes_travel_with_the_sample_as_json() -> None:
    fields = row(task="trec", all_classes=np.array(["city", "country"]), length=np.int64(7))

    sample = LongBench().to_sample(0, fields, "trec")

    assert json.loads(json.dumps(sample.extra)) == {"length": 7, "all_classes": ["city", "country"]}


@pytest.mark.parametrize(
    ("subset", "missing", "says"),
    [("lsht", "all_classes", "lsht has no all_classes"), ("qasper_e", "length", "qasper_e has no length")],
)
def test_rows_without_what_scores_need_are_refused(tmp_path: Path, subset: str, missing: str, says: str) -> None:
    write_jsonl(tmp_path / f"{subset}.jsonl", [row(task=subset, **{missing: None})])

    with pytest.raises(DatasetError, match=says):
        LongBench(data=str(tmp_path)).load(subset, len)


def test_missing_column_names_expected_and_found(tmp_path: Path) -> None:
    fields = row()
    del fields["answers"]
    write_jsonl(tmp_path / "qasper.jsonl", [fields])

    with pytest.raises(DatasetError, match=r"lacks answers \(columns expected: context, .*; found: context, question"):
        LongBench(data=str(tmp_path)).load("qasper", len)


def test_broken_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "qasper.jsonl").write_text('{"context": "torn\n')

    with pytest.raises(DatasetError, match=r"qasper\.jsonl cannot be read"):
        LongBench(data=str(tmp_path)).load("qasper", len)


def test_missing_subset_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SweepError, match=r"holds no qasper\.jsonl, \.parquet, \.csv or folder qasper/"):
        LongBench(data=str(tmp_path)).identity("qasper")


def test_missing_data_path_is_refused_at_planning(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="does not exist"):
        LongBench(data=str(tmp_path / "nowhere"))


def test_identity_follows_content_and_not_the_path(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "one" / "qasper.jsonl", [row()])
    write_jsonl(tmp_path / "two" / "qasper.jsonl", [row()])
    write_jsonl(tmp_path / "three" / "qasper.jsonl", [row(question="Why?")])

    one, two, three = (LongBench(data=str(tmp_path / name)).identity("qasper") for name in ("one", "two", "three"))

    assert one == two != three
    assert str(tmp_path) not in json.dumps(one)


def test_identity_of_a_changed_file_changes(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "qasper.jsonl", [row()])
    benchmark = LongBench(data=str(tmp_path))
    before = benchmark.identity("qasper")

    write_jsonl(path, [row(), row()])

    assert benchmark.identity("qasper") != before


def test_identity_of_hub_data_is_its_revision() -> None:
    assert LongBench(revision="abc").identity("qasper") == {
        "version": 1,
        "data": "Xnhyacinth/LongBench",
        "revision": "abc",
    }


def test_hub_data_is_named_by_subset_and_revision() -> None:
    assert LongBench(revision="abc").hub_data("qasper") == HubRepo("dataset", "Xnhyacinth/LongBench", "abc", "qasper")


def test_local_data_needs_no_hub(tmp_path: Path) -> None:
    assert LongBench(data=str(tmp_path)).hub_data("qasper") is None


def test_reading_local_data_leaves_the_cache_of_datasets_alone(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "qasper.jsonl", [row()])

    LongBench(data=str(tmp_path)).load("qasper", len)

    assert not (tmp_path / "cache").exists()
