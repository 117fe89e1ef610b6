import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge import Rouge

from hpc_bench.benchmarks.metrics import longbench as metrics
from hpc_bench.benchmarks.metrics.chinese_words import chinese_words
from hpc_bench.benchmarks.metrics.qa_f1 import qa_f1

Score = Callable[[str, str], float]


def as_rouge(precision: float, recall: float) -> float:
    """F as the package `rouge` writes it."""
    return 2 * precision * recall / (precision + recall + 1e-8)


def classify(prediction: str, reference: str) -> float:
    return metrics.classification(prediction, reference, ["city", "country", "mountain"])


METRICS: dict[str, Score] = {
    "qa_f1": qa_f1,
    "qa_f1_zh": metrics.qa_f1_zh,
    "rouge_l": metrics.rouge_l_f,
    "rouge_zh": metrics.rouge_zh,
    "classification": classify,
    "retrieval": metrics.retrieval,
    "retrieval_zh": metrics.retrieval_zh,
    "count": metrics.count,
    "code_sim": metrics.code_similarity,
}
REFERENCES = {
    "qa_f1": "the red house 12",
    "qa_f1_zh": "我们在北京大学",
    "rouge_l": "the cat sat. on the mat",
    "rouge_zh": "我们在北京大学。今天下雨",
    "classification": "city",
    "retrieval": "Paragraph 12",
    "retrieval_zh": "段落12",
    "count": "12",
    "code_sim": "    return self.value + 12",
}


@pytest.mark.parametrize(
    ("prediction", "reference", "f1"),
    [
        ("北京大学", "北京大学。", 1.0),
        ("我们在北京大学", "北京大学", 0.5),  # 我们 / 在 / 北京大学: 1 of 3 said, 1 of 1 wanted
        ("我们，在！", "我们", 2 / 3),
        ("ABC", "abc", 1.0),
        ("", "北京大学", 0.0),
        ("。，！？…", "北京大学", 0.0),
        ("。", "。", 0.0),
    ],
)
def test_qa_f1_zh_by_hand(prediction: str, reference: str, f1: float) -> None:
    assert metrics.qa_f1_zh(prediction, reference) == pytest.approx(f1)


@pytest.mark.parametrize(
    ("prediction", "reference", "f"),
    [
        ("the cat sat", "the cat sat", as_rouge(1, 1)),
        ("the cat ran", "the cat sat down", as_rouge(2 / 3, 2 / 4)),
        ("sat cat the", "the cat sat", as_rouge(1 / 3, 1 / 3)),  # in another order, one word at a time
        ("a a a a", "a b", as_rouge(1 / 1, 1 / 2)),  # words count once
        ("a b. c d", "a d. c b", as_rouge(1, 1)),  # the union over all pairs of sentences
        ("Cat", "cat", 0.0),
        ("", "cat", 0.0),
        ("cat", "", 0.0),
        ("...", "cat", 0.0),
        (" . ", "cat", 0.0),
        (" . ", " . ", as_rouge(1, 1)),  # a sentence of spaces alone is one empty word
        ("cat。", "cat。", as_rouge(1, 1)),
    ],
)
def test_rouge_l_by_hand(prediction: str, reference: str, f: float) -> None:
    assert metrics.rouge_l_f(prediction, reference) == pytest.approx(f, abs=1e-15)


def official_rouge_l(prediction: str, reference: str) -> float:
    try:
        scores = Rouge().get_scores([prediction], [reference], avg=True)
    except ValueError:
        return 0.0
    return float(scores["rouge-l"]["f"])


TEXT = st.lists(st.sampled_from(["a", "b", "c", "d", "e", ".", " . ", "\n", ""]), max_size=30).map(" ".join)


@settings(max_examples=300, deadline=None)
@given(TEXT, TEXT)
def test_rouge_l_is_the_package_s(prediction: str, reference: str) -> None:
    assert metrics.rouge_l_f(prediction, reference) == official_rouge_l(prediction, reference)


def test_rouge_l_of_long_texts_is_the_package_s() -> None:
    said = " ".join(f"w{n * n % 97}" for n in range(400)) + ". " + " ".join(f"w{n * 7 % 61}" for n in range(90))
    wanted = " ".join(f"w{n * 5 % 89}" for n in range(300)) + ". w1 w2 w3"

    assert metrics.rouge_l_f(said, wanted) == official_rouge_l(said, wanted) > 0


def test_rouge_l_is_0_where_the_package_meets_the_recursion_limit() -> None:
    near, far = "a " + "b " * 900, "a " + "b " * 1100

    assert metrics.rouge_l_f(near, "a") > 0
    assert metrics.rouge_l_f(far, "a") == 0
    with pytest.raises(RecursionError):
        official_rouge_l(far, "a")


@pytest.mark.parametrize(
    ("prediction", "reference", "f"),
    [
        ("我们在北京大学", "我们在北京大学", as_rouge(1, 1)),
        ("北京大学", "我们在北京大学", as_rouge(1, 1 / 3)),
        ("今天，北京大学", "今天在北京大学", as_rouge(2 / 3, 2 / 3)),  # the comma is a word too
        ("", "我们", 0.0),
        (".", "我们", 0.0),
    ],
)
def test_rouge_zh_by_hand(prediction: str, reference: str, f: float) -> None:
    assert metrics.rouge_zh(prediction, reference) == pytest.approx(f, abs=1e-15)


@pytest.mark.parametrize(
    ("prediction", "right", "classes", "score"),
    [
        ("city", "city", ["city", "country"], 1.0),
        ("A city, not a country", "city", ["city", "country"], 0.5),
        ("country", "city", ["city", "country"], 0.0),
        ("", "city", ["city", "country"], 0.0),
        ("?!", "city", ["city", "country"], 0.0),
        ("City", "city", ["city", "country"], 0.0),
        ("Other city", "Other city", ["city", "Other city"], 1.0),  # part of the right name: not counted
        ("Other city", "city", ["city", "Other city"], 0.5),
        ("a b c", "a b c", ["a", "b", "c", "a b c"], 0.5),  # b follows on a, which was removed: it stays
        ("体育", "体育", ["体育", "财经"], 1.0),
        ("city", "city", [], 0.0),
    ],
)
def test_classification_by_hand(prediction: str, right: str, classes: list[str], score: float) -> None:
    assert metrics.classification(prediction, right, classes) == score


@pytest.mark.parametrize(
    ("prediction", "score"),
    [("Paragraph 12", 1.0), ("12 or 3", 0.5), ("Paragraph 3", 0.0), ("112", 0.0), ("012", 0.0), ("", 0.0), ("?", 0.0)],
)
def test_numbers_by_hand(prediction: str, score: float) -> None:
    assert metrics.retrieval(prediction, "Paragraph 12") == score
    assert metrics.retrieval_zh(prediction, "段落12") == score
    assert metrics.count(prediction, "12") == score


def test_reference_without_a_paragraph_number_scores_0() -> None:
    assert metrics.retrieval("12", "12") == metrics.retrieval_zh("12", "Paragraph 12") == 0.0


@pytest.mark.parametrize(
    ("prediction", "reference", "score"),
    [
        ("x = 1", "x = 1", 1.0),
        ("\n\nx = 1\ny = 2", "x = 1", 1.0),
        ("```python\n# set x\n// x\nx = 1", "x = 1", 1.0),
        ("# nothing but comments", "x = 1", 0.0),
        ("", "x = 1", 0.0),
        ("", "", 1.0),
        ("x = 1", "", 0.0),
        ("x = 2", "x = 1", 0.8),  # 2 * 4 of 10 characters
        ("abc", "ab", 0.8),
        ("abcdef", "a", 0.29),  # 28.57 %, rounded
        ("abcd" * 2, "bcda", 0.67),
        ("barfoo", "foobar", 0.5),
        ("a1b2c3d4xyz", "xyzabcd", 0.33),  # difflib finds xyz, 2 * 3 of 18; the common subsequence abcd would be 0.44
        ("a" * 400, "a", 0.0),  # 2 of 401: 0.4988 %
    ],
)
def test_code_similarity_by_hand(prediction: str, reference: str, score: float) -> None:
    assert metrics.code_similarity(prediction, reference) == score


@pytest.mark.parametrize("length", [390, 398, 399, 400, 500])
def test_what_is_not_compared_would_round_to_0(length: int) -> None:
    from difflib import SequenceMatcher

    line = "a" + "b" * (length - 1)

    assert metrics.code_similarity(line, "a") == round(100 * SequenceMatcher(None, line, "a").ratio()) / 100


@pytest.mark.parametrize(
    "text", ["", " \r\n我们 ", "A股和T恤", "3.5%的AT&T", "C++ c# x-y_z.", "我们在北京大学abc", "龘" * 9]
)
def test_words_are_those_of_jieba(jieba_itself: Any, text: str) -> None:
    assert chinese_words(text) == tuple(jieba_itself.cut(text))


@settings(max_examples=300, deadline=None)
@given(text=st.text("我们龘aB12.%-_+#& \r\n，é", max_size=30))
def test_words_of_any_text_are_those_of_jieba(jieba_itself: Any, text: str) -> None:
    assert chinese_words(text) == tuple(jieba_itself.cut(text))


@pytest.fixture(scope="module")
def jieba_itself(tmp_path_factory: pytest.TempPathFactory) -> Any:
    chinese_words("")
    made = sys.modules["jieba"].Tokenizer()
    made.tmp_dir = str(tmp_path_factory.mktemp("jieba"))
    return made


@settings(max_examples=60, deadline=None)
@given(st.text())
@pytest.mark.parametrize("name", METRICS)
def test_any_prediction_has_a_score(name: str, prediction: str) -> None:
    assert 0 <= METRICS[name](prediction, REFERENCES[name]) <= 1


@pytest.mark.parametrize("name", METRICS)
def test_reference_itself_is_right(name: str) -> None:
    assert METRICS[name](REFERENCES[name], REFERENCES[name]) == pytest.approx(1)


LARGE = {
    "one number": "7" * 1_000_000,
    "many numbers": "12 7 " * 200_000,
    "many sentences": "a 1. b 2. " * 100_000,
    "one line": "return " * 150_000,
}


@pytest.mark.parametrize("text", LARGE.values(), ids=LARGE)
@pytest.mark.parametrize("name", METRICS)
def test_a_megabyte_takes_no_longer_than_its_length(name: str, text: str) -> None:
    limit_s = 20 if name.endswith("_zh") and name != "retrieval_zh" else 2  # jieba needs microseconds a character
    started = time.process_time()

    METRICS[name](text, REFERENCES[name])

    assert time.process_time() - started < limit_s


def test_long_chinese_runs_take_no_quadratic_time() -> None:
    started = time.process_time()

    assert "".join(chinese_words("龘" * 20_000)) == "龘" * 20_000

    assert time.process_time() - started < 10


def test_jieba_is_loaded_when_used_and_without_a_warning(tmp_path: Path) -> None:
    code = (
        "import sys; from hpc_bench.benchmarks.suites import longbench, longbenchv2; assert 'jieba' not in sys.modules;"
        "from hpc_bench.benchmarks.metrics.chinese_words import chinese_words;"
        "print(len(chinese_words('我们在北京大学')))"
    )
    environment: dict[str, Any] = {"PYTHONPYCACHEPREFIX": str(tmp_path), "TMPDIR": str(tmp_path / "scratch")}
    (tmp_path / "scratch").mkdir()
    root = Path(metrics.__file__).parents[2]

    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], env=environment, capture_output=True, text=True, cwd=root
    )

    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "3", "")
    assert not list((tmp_path / "scratch").iterdir())
