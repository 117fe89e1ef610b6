import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import datasets
import pytest

from hpc_bench import catalog
from hpc_bench.benchmarks.suites.ruler import Ruler
from hpc_bench.errors import DatasetError, SweepError
from hpc_bench.sweep.plan import make_plan
from hpc_bench.sweep.sweep import parse_sweep
from hpc_bench.values import HubRepo, Sample
from tests.support.benchmark_rows import write_jsonl
from tests.support.fake_hub import running_hub

_NIAH = "single_1 single_2 single_3 multikey_1 multikey_2 multikey_3 multivalue multiquery"
TASKS = {f"niah_{name}": 128 for name in _NIAH.split()} | {"vt": 30, "cwe": 120, "fwe": 50, "qa_1": 32, "qa_2": 32}


def row(task: str = "vt", **changes: Any) -> dict[str, Any]:
    fields = {
        "context": "VAR A = 1.",
        "question": "Which?",
        "answer_prefix": " Answer:",
        "answer": ["AAAAA", "BBBBB"],
        "task": task,
        "max_new_tokens": 999,
    }
    return {**fields, **changes}


def sample(task: str, *references: str) -> Sample:
    return Sample("0", "context", "question", references, 8, task=task)


@pytest.mark.parametrize(
    ("task", "references", "prediction", "score"),
    [
        ("niah_multivalue", ("11", "22", "33", "44"), "11, 22 and 44", 75.0),
        ("niah_single_3", ("AB-cd",), "it is ab-CD.", 100.0),
        ("niah_single_1", ("4829",), "48\x0029", 0.0),  # a control character becomes a newline
        ("niah_single_1", ("4829",), "\x014829\x1f", 100.0),
        ("vt", ("AAAAA", "BBBBB", "CCCCC"), "aaaaa", 33.33),
        ("cwe", tuple("abcdefghij"), "", 0.0),
        ("fwe", ("abc", "def", "ghi"), "abcdefghi", 100.0),  # substrings, not words
        ("qa_1", ("Paris", "the city of Paris"), "paris, france", 100.0),  # any will do
        ("qa_2", ("yes",), "Yesterday", 100.0),
        ("qa_2", ("yes",), "no", 0.0),
        ("4096_qa_1", ("a", "b"), "b", 100.0),
    ],
)
def test_score_is_rulers_string_match(task: str, references: tuple[str, ...], prediction: str, score: float) -> None:
    assert Ruler().score([sample(task, *references)], [prediction]).score == score


def test_score_is_the_mean_over_samples_with_two_decimals() -> None:
    samples = [sample("niah_multiquery", "1", "2", "3"), sample("niah_multiquery", "4"), sample("niah_multiquery", "5")]

    scores = Ruler().score(samples, ["1 2", "", "5"])

    assert scores.score == scores.metrics["string_match"].value == 55.56  # (66.67 + 0 + 100) / 3
    assert [scored["string_match"] for scored in scores.per_sample] == [pytest.approx(200 / 3), 0.0, 100.0]


def test_last_digit_is_that_of_rulers_sum() -> None:
    """sum(shares) / 16 * 100 is 50.625 and a little more; with shares in percent, a little less."""
    words = list("abcdefghij")
    found = [6, 6, 0, 4, 8, 7, 6, 4, 7, 5, 9, 3, 8, 2, 4, 2]

    scores = Ruler().score([sample("cwe", *words)] * 16, [" ".join(words[:count]) for count in found])

    assert scores.score == 50.63


def test_named_without_subsets_it_has_all_tasks_of_four_lengths() -> None:
    assert len(Ruler.subsets) == 52
    assert {subset.partition("_")[2] for subset in Ruler.subsets} == set(TASKS)
    assert {subset.partition("_")[0] for subset in Ruler.subsets} == {"4096", "8192", "16384", "32768"}


@pytest.mark.parametrize(("task", "new_tokens"), TASKS.items())
def test_new_token_limits_are_the_official_ones(tmp_path: Path, task: str, new_tokens: int) -> None:
    write_jsonl(tmp_path / "4096.jsonl", [row(task)])

    (made,) = Ruler(data=str(tmp_path)).load(f"4096_{task}", len)

    assert made.max_new_tokens == new_tokens == Ruler().size(f"4096_{task}").new_tokens


@pytest.mark.parametrize("kind", ["jsonl", "parquet", "saved"])
def test_local_folder_in_the_schema_of_the_hub(tmp_path: Path, kind: str) -> None:
    rows = [row("cwe"), row("vt", question="first"), row("vt", question="second", answer=["X"])]
    if kind == "jsonl":
        write_jsonl(tmp_path / "4096.jsonl", rows)
    elif kind == "parquet":
        datasets.Dataset.from_list(rows).to_parquet(str(tmp_path / "4096.parquet"))
    else:
        datasets.DatasetDict(test=datasets.Dataset.from_list(rows)).save_to_disk(str(tmp_path / "4096"))

    samples = list(Ruler(data=str(tmp_path)).load("4096_vt", len))

    assert [(one.sample_id, one.question, one.references) for one in samples] == [
        ("0001", "first", ("AAAAA", "BBBBB")),
        ("0002", "second", ("X",)),
    ]
    assert samples[0].answer_prefix == " Answer:"
    assert samples[0].task == "vt"
    assert samples[0].extra == {"length": 4096}


def test_rows_of_the_hub_are_found_by_length_and_task(tmp_path: Path) -> None:
    part = tmp_path / "part.parquet"
    datasets.Dataset.from_list([row("vt"), row("fwe", question="Which three?")]).to_parquet(str(part))
    program = (
        "from hpc_bench.benchmarks.suites.ruler import Ruler\n"
        "print([(one.sample_id, one.question, one.references) for one in Ruler().load('4096_fwe', len)])"
    )

    with running_hub() as hub:
        hub.push("datasets/simonjegou/ruler", {"4096/test-00000-of-00001.parquet": part.read_bytes()})
        environment = {**os.environ, **hub.environment(tmp_path / "home")}
        done = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
        )

    assert done.stdout.strip() == "[('0001', 'Which three?', ('AAAAA', 'BBBBB'))]"


def test_hub_data_is_the_configuration_of_the_length() -> None:
    assert Ruler(revision="abc").hub_data("8192_cwe") == HubRepo("dataset", "simonjegou/ruler", "abc", "8192")
    assert Ruler(source="generate").hub_data("8192_cwe") is None


def test_identity_of_hub_data_is_its_revision_and_says_nothing_of_the_generator() -> None:
    assert Ruler(revision="abc").identity("4096_vt") == {"version": 1, "data": "simonjegou/ruler", "revision": "abc"}


def test_identity_of_generated_samples_is_all_that_they_are_made_of(tmp_path: Path) -> None:
    for name, text in [("one", "Some words."), ("two", "Some words."), ("three", "Other words.")]:
        (tmp_path / name).mkdir()
        (tmp_path / name / "essay.txt").write_text(text)

    one, two, three = (
        Ruler(source="generate", essays=str(tmp_path / name)).identity("4096_niah_single_2")
        for name in ("one", "two", "three")
    )

    assert one == two != three
    assert str(tmp_path) not in json.dumps(one)
    plain = Ruler(source="generate", essays=str(tmp_path / "one"), seed=3).identity("4096_vt")
    assert plain == {"version": 1, "text_version": 2, "source": "generate", "samples": 500, "seed": 3}


def test_local_file_of_another_length_is_refused(tmp_path: Path) -> None:
    file = write_jsonl(tmp_path / "4096.jsonl", [row("vt")])
    benchmark = Ruler(data=str(file))

    assert len(list(benchmark.load("4096_vt", len))) == 1
    with pytest.raises(SweepError, match=r"not named after its length; give a folder with 8192\.jsonl"):
        benchmark.identity("8192_vt")


def test_local_data_may_have_any_length(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "131072.jsonl", [row("vt")])

    assert Ruler(data=str(tmp_path)).check_subset("131072_vt") == "131072_vt"
    with pytest.raises(SweepError, match=r"holds no 8192\.jsonl"):
        Ruler(data=str(tmp_path)).identity("8192_vt")


def test_missing_task_and_missing_column_are_named(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "4096.jsonl", [row("vt")])
    write_jsonl(tmp_path / "8192.jsonl", [{"context": "", "question": "", "task": "vt"}])
    write_jsonl(tmp_path / "512.jsonl", [row("vt", answer=[])])

    with pytest.raises(DatasetError, match=r"no rows of task cwe \(has: vt\)"):
        Ruler(data=str(tmp_path)).load("4096_cwe", len)
    with pytest.raises(DatasetError, match="lacks answer_prefix, answer"):
        Ruler(data=str(tmp_path)).load("8192_vt", len)
    with pytest.raises(DatasetError, match=r"512\.jsonl: line 1: has no answer"):
        Ruler(data=str(tmp_path)).load("512_vt", len)


@pytest.mark.parametrize("subset", ["256_vt", "1000_cwe", "4096_qa_1", "131072_niah_single_1", "1048576_fwe"])
def test_any_length_can_be_generated(subset: str) -> None:
    assert Ruler(source="generate").check_subset(subset) == subset


@pytest.mark.parametrize("subset", ["0_vt", "255_vt", "1048577_vt", "04096_vt", "4k_vt", "_vt", "-512_vt", "٤٠٩٦_vt"])
def test_other_lengths_are_refused_with_what_is_allowed(subset: str) -> None:
    with pytest.raises(SweepError, match="from 256 to 1048576"):
        Ruler(source="generate").check_subset(subset)


@pytest.mark.parametrize(
    ("subset", "nearest"),
    [
        ("4096_niah_singel_1", "4096_niah_single_1"),
        ("512_qa1", "512_qa_1"),
        ("niah_multikey_2", "4096_niah_multikey_2"),
    ],
)
def test_unknown_task_is_refused_with_the_nearest(subset: str, nearest: str) -> None:
    with pytest.raises(SweepError, match=f"did you mean '{nearest}'"):
        Ruler(source="generate").check_subset(subset)


def test_length_that_the_hub_lacks_is_refused_with_the_remedy() -> None:
    with pytest.raises(SweepError, match=r"4096, 8192, 16384, 32768 only; with `source: generate`"):
        Ruler().check_subset("1000_vt")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"samples": 0}, "at least 1"),
        ({"source": "generate", "data": "."}, "leave out either data or source"),
        ({"seed": 1}, "seed: without effect"),
        ({"samples": 20, "essays": "."}, "samples, essays: without effect"),
        ({"source": "generate", "qa": "nowhere"}, "qa: nowhere does not exist"),
        ({"source": "web"}, "'hub' or 'generate'"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(SweepError, match=message):
        catalog.build("benchmark", "ruler", options)


@pytest.mark.parametrize(
    ("subset", "option"), [("4096_niah_single_2", "essays"), ("512_niah_multiquery", "essays"), ("512_qa_2", "qa")]
)
def test_missing_files_of_a_generated_task_are_refused_while_planning(subset: str, option: str) -> None:
    sweep = {
        "name": "ruler",
        "model_names": ["demo/tiny-2l"],
        "benchmark_configs": {"ruler": {"source": "generate", "subsets": [subset]}},
    }

    with pytest.raises(SweepError, match=rf"{subset} .* in the option {option}"):
        make_plan(parse_sweep(sweep))


def test_folder_without_the_files_is_refused(tmp_path: Path) -> None:
    benchmark = Ruler(source="generate", essays=str(tmp_path), qa=str(tmp_path))

    with pytest.raises(SweepError, match=r"holds no \.txt file"):
        benchmark.identity("4096_niah_single_3")
    with pytest.raises(SweepError, match=r"holds no qa_1\.json"):
        benchmark.identity("4096_qa_1")
