import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import pytest

from hpc_bench.benchmarks.longbench import LongBench
from hpc_bench.benchmarks.qa_f1 import best_qa_f1, normalize_answer, qa_f1
from hpc_bench.errors import PluginError, SweepError
from hpc_bench.hub import HubRepo
from hpc_bench.records import Sample

NEW_TOKENS = {
    "narrativeqa": 128,
    "qasper": 128,
    "multifieldqa_en": 64,
    "hotpotqa": 32,
    "2wikimqa": 32,
    "musique": 32,
    "triviaqa": 32,
}


@pytest.fixture(autouse=True)
def _private_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()


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


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(fields) + "\n" for fields in rows))
    return path


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
    with pytest.raises(PluginError, match=r"no rows of task hotpotqa \(has: musique, qasper\)"):
        benchmark.load("hotpotqa", len)


@pytest.mark.parametrize(("subset", "new_tokens"), NEW_TOKENS.items())
def test_official_new_token_limits_win_over_the_column(tmp_path: Path, subset: str, new_tokens: int) -> None:
    write_jsonl(tmp_path / f"{subset}.jsonl", [row(task=subset)])

    (sample,) = LongBench(data=str(tmp_path)).load(subset, len)

    assert sample.max_new_tokens == new_tokens == LongBench().size(subset).new_tokens
    assert sample.chat is (subset != "triviaqa")


def test_missing_column_names_expected_and_found(tmp_path: Path) -> None:
    fields = row()
    del fields["answers"]
    write_jsonl(tmp_path / "qasper.jsonl", [fields])

    with pytest.raises(PluginError, match=r"lacks answers \(columns expected: context, .*; found: context, question"):
        LongBench(data=str(tmp_path)).load("qasper", len)


def test_broken_file_is_a_plug_in_error(tmp_path: Path) -> None:
    (tmp_path / "qasper.jsonl").write_text('{"context": "torn\n')

    with pytest.raises(PluginError, match=r"qasper\.jsonl cannot be read"):
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
