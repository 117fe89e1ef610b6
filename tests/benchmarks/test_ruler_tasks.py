"""What the samples of each task of ruler hold, and that their answers are right."""

import re
from collections import Counter
from pathlib import Path

import pytest

from hpc_bench.benchmarks.generated.ruler import TASKS
from hpc_bench.benchmarks.suites.ruler import Ruler
from hpc_bench.errors import DatasetError, PluginError
from tests.support.ruler_sources import RulerMaker, word_tokens, write_sources

NEEDLE = re.compile(r"A special magic (?:number|uuid) for (\S+) is (\S+)\.")
NIAH = [task for task in TASKS if task.startswith("niah")]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> RulerMaker:
    return RulerMaker(**write_sources(tmp_path_factory.mktemp("sources")))


@pytest.mark.parametrize(
    ("task", "needles", "keys", "answers"),
    [
        ("niah_single_1", 1, 1, 1),
        ("niah_single_2", 1, 1, 1),
        ("niah_single_3", 1, 1, 1),
        ("niah_multikey_1", 4, 4, 1),
        ("niah_multivalue", 4, 1, 4),
        ("niah_multiquery", 4, 4, 4),
    ],
)
def test_haystack_hides_as_many_needles_as_the_task_says(
    make: RulerMaker, task: str, needles: int, keys: int, answers: int
) -> None:
    for sample in make(f"2048_{task}", samples=5):
        found = NEEDLE.findall(sample.context)

        assert len(found) == len({value for _, value in found}) == needles
        assert len({key for key, _ in found}) == keys
        assert len(sample.references) == answers


@pytest.mark.parametrize("task", NIAH)
def test_answers_are_the_values_of_the_keys_that_are_asked_for(make: RulerMaker, task: str) -> None:
    for sample in make(f"2048_{task}", samples=5):
        found = NEEDLE.findall(sample.context)
        asked = [key for key in dict.fromkeys(key for key, _ in found) if re.search(rf"[ ]{key}\b", sample.question)]

        assert {value for key, value in found if key in asked} == set(sample.references)
        assert all(key in sample.answer_prefix for key in asked)
        assert all(sample.context.count(value) == 1 for value in sample.references)


@pytest.mark.parametrize("task", ["niah_multikey_2", "niah_multikey_3"])
def test_haystack_of_needles_has_distinct_keys_and_little_else(make: RulerMaker, task: str) -> None:
    for sample in make(f"8192_{task}", samples=2):
        keys = [key for key, _ in NEEDLE.findall(sample.context)]
        rest = NEEDLE.sub("", sample.context)

        assert len(keys) == len(set(keys)) > 50
        assert len(rest) < 0.05 * len(sample.context)


@pytest.mark.parametrize(
    ("task", "key", "value"),
    [
        ("niah_multikey_2", r"[a-z]+-[a-z]+", r"\d{7}"),
        ("niah_single_3", r"[a-z]+-[a-z]+", r"[0-9a-f-]{36}"),
        ("niah_multikey_3", r"[0-9a-f-]{36}", r"[0-9a-f-]{36}"),
    ],
)
def test_kinds_of_keys_and_values(make: RulerMaker, task: str, key: str, value: str) -> None:
    for found in NEEDLE.findall(make(f"2048_{task}", samples=1)[0].context):
        assert re.fullmatch(key, found[0])
        assert re.fullmatch(value, found[1])


@pytest.mark.parametrize("task", ["niah_single_1", "niah_single_2", "niah_multikey_2"])
def test_needles_lie_at_all_depths(make: RulerMaker, task: str) -> None:
    depths = [sample.extra["depths"][0] for sample in make(f"1024_{task}", samples=60)]  # type: ignore[index]

    assert all(sum(start <= depth <= start + 25 for depth in depths) >= 5 for start in (0, 25, 50, 75))  # type: ignore[operator]


def test_essays_are_repeated_when_short_and_needles_lie_between_sentences(make: RulerMaker) -> None:
    essay = " ".join((Path(make.essays) / "a.txt").read_text().split())

    (sample,) = make("16384_niah_multivalue", samples=1, tokens=word_tokens)

    before = [sample.context[: match.start()].rstrip() for match in NEEDLE.finditer(sample.context)]
    assert all(text.endswith(".") for text in before)
    assert NEEDLE.sub("", sample.context).replace("  ", " ").count(essay) >= 2


@pytest.mark.parametrize("length", [512, 4096])
def test_chain_of_variables_leads_to_the_value(make: RulerMaker, length: int) -> None:
    for sample in make(f"{length}_vt", samples=5):
        value = re.search(r"value (\d{5})", sample.question)[1]  # type: ignore[index]
        sources = dict(re.findall(r"VAR ([A-Z]{5}) = (?:VAR )?(\w+)\.", sample.context))
        holding = set()
        for name in sources:
            end = name
            while end in sources:
                end = sources[end]
            if end == value:
                holding.add(name)

        assert holding == set(sample.references)
        assert len(sample.references) == 5
        places = [sample.context.index(f"VAR {name} =") for name in sample.references]
        assert places == sorted(places)


@pytest.mark.parametrize(("length", "common", "others"), [(2048, 6, 1), (8192, 30, 3)])
def test_common_words_are_the_most_frequent(make: RulerMaker, length: int, common: int, others: int) -> None:
    for sample in make(f"{length}_cwe", samples=2, tokens=word_tokens):
        listed = sample.context.rpartition("\n\n")[2]
        numbers = [int(number) for number in re.findall(r"(\d+)\.", listed)]
        counts = Counter(re.findall(r"[a-z]+", listed))

        assert numbers == list(range(1, len(numbers) + 1))
        assert {word for word, _ in counts.most_common(10)} == set(sample.references)
        assert {counts[word] for word in sample.references} == {common}
        rest = [count for word, count in counts.items() if word not in sample.references]
        assert max(rest) == others
        assert sum(count < others for count in rest) <= 1


def test_common_words_of_a_length_that_holds_few_words_are_still_the_most_frequent(make: RulerMaker) -> None:
    for sample in make("512_cwe"):
        counts = Counter(re.findall(r"\d+\. ([a-z]{6})", sample.context))

        assert {word for word, _ in counts.most_common(10)} == set(sample.references)
        assert counts.most_common(11)[10][1] < counts.most_common(10)[9][1]


@pytest.mark.parametrize("length", [512, 8192])
def test_coded_words_follow_zipf_and_the_answers_are_the_top_three(make: RulerMaker, length: int) -> None:
    for sample in make(f"{length}_fwe"):
        words = sample.context.partition("\n\n")[2].split()
        ranked = Counter(words).most_common(5)

        assert ranked[0][0] == "..."
        assert tuple(word for word, _ in ranked[1:4]) == sample.references
        assert ranked[3][1] > ranked[4][1]
        if length == 8192:
            assert [count for _, count in ranked] == [ranked[0][1] // rank**2 for rank in range(1, 6)]


@pytest.mark.parametrize(("task", "own", "answer"), [("qa_1", 1, "Value"), ("qa_2", 2, "Place")])
def test_documents_that_answer_are_among_distractors(make: RulerMaker, task: str, own: int, answer: str) -> None:
    samples = make(f"4096_{task}", samples=4)

    assert [one.references[0][:5] for one in samples] == [answer] * 4
    for sample in samples:
        numbers = [int(number) for number in re.findall(r"^Document (\d+):$", sample.context, re.MULTILINE)]
        assert numbers == list(range(1, len(numbers) + 1))
        assert len(numbers) > 10
        assert sample.references[0] in sample.context
        assert len(sample.extra["depths"]) == own  # type: ignore[arg-type]
    assert len({str(sample.extra["depths"]) for sample in samples}) == 4


def test_questions_are_asked_once_each_and_those_without_an_answer_never(make: RulerMaker) -> None:
    samples = make("4096_qa_1", samples=500)

    assert len(samples) == len({sample.question for sample in samples}) == 24
    assert all(len(sample.references) == 1 for sample in samples)


@pytest.mark.parametrize("text", ["{}", "[]", "not json", '{"data": 3}', '{"data": []}', "[1]"])
@pytest.mark.parametrize("task", ["qa_1", "qa_2"])
def test_file_that_holds_no_questions_is_an_error(tmp_path: Path, task: str, text: str) -> None:
    file = tmp_path / "questions.json"
    file.write_text(text)

    with pytest.raises(DatasetError, match=r"questions\.json"):
        list(Ruler(source="generate", qa=str(file)).load(f"4096_{task}", word_tokens))


@pytest.mark.parametrize("content", [b"", b" \n ", b"\xff\xfe\x00"])
def test_essays_without_words_are_an_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "essay.txt").write_bytes(content)

    with pytest.raises(DatasetError, match="the essays in"):
        list(Ruler(source="generate", essays=str(tmp_path)).load("4096_niah_single_2", word_tokens))


@pytest.mark.parametrize("task", ["niah_multikey_3", "cwe", "qa_1"])
def test_length_that_holds_no_sample_is_an_error(make: RulerMaker, task: str) -> None:
    with pytest.raises(PluginError, match=f"256 tokens are too few for {task} .*choose a longer subset"):
        make(f"256_{task}", tokens=len)
