"""The metrics of LongBench beside F1 over English words: one prediction against one reference, 0-1 each."""

from __future__ import annotations

import re
import string
from collections.abc import Sequence
from difflib import SequenceMatcher

from hpc_bench.benchmarks.metrics.chinese_words import chinese_words
from hpc_bench.benchmarks.metrics.qa_f1 import word_f1
from hpc_bench.benchmarks.metrics.rouge import PACKAGE_STEPS, rouge_l

__all__ = [
    "classification",
    "code_similarity",
    "count",
    "qa_f1_zh",
    "retrieval",
    "retrieval_zh",
    "rouge_l_f",
    "rouge_zh",
]

_CHINESE_PUNCTUATION = (
    "！？｡。＂＃＄％＆＇（）＊＋，－／：；＜＝＞＠［＼］＾＿｀｛｜｝～｟｠｢｣､、〃》「」『』【】"  # noqa: RUF001
    "〔〕〖〗〘〙〚〛〜〝〞〟〰〾〿–—‘’‛“”„‟…‧﹏."  # noqa: RUF001
)
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation + _CHINESE_PUNCTUATION)
_COMMENT_OR_QUOTE = re.compile("[`#]|//")


def qa_f1_zh(prediction: str, reference: str) -> float:
    """F1 over Chinese words without punctuation (LongBench/metrics.py, `qa_f1_zh_score`)."""
    return word_f1(_bare_words(prediction), _bare_words(reference))


def _bare_words(text: str) -> list[str]:
    bare = ("".join(word.lower().translate(_NO_PUNCTUATION).split()) for word in chinese_words(text))
    return [word for word in bare if word]


def rouge_l_f(prediction: str, reference: str) -> float:
    """The F of ROUGE-L; 0 where the package raises, as LongBench catches that (LongBench/metrics.py, `rouge_score`)."""
    return rouge_l(prediction, reference, PACKAGE_STEPS).f1


def rouge_zh(prediction: str, reference: str) -> float:
    """ROUGE-L over Chinese words (LongBench/metrics.py, `rouge_zh_score`)."""
    return rouge_l_f(" ".join(chinese_words(prediction)), " ".join(chinese_words(reference)))


def classification(prediction: str, reference: str, classes: Sequence[str]) -> float:
    """1 / the number of class names said, if the right one is among them, else 0.

    As in LongBench/metrics.py, `classification_score`. A name that is part of the right one does not count, unless it
    follows directly on another such name: the official loop removes names from the list that it goes through, and so
    passes over the next one.
    """
    said = [name for name in classes if name in prediction]
    for name in said:
        if name in reference and name != reference:
            said.remove(name)
    return 1.0 / len(said) if reference in said else 0.0


def retrieval(prediction: str, reference: str) -> float:
    """The share of numbers said that are the paragraph's (LongBench/metrics.py, `retrieval_score`)."""
    paragraph = re.search(r"Paragraph (\d+)", reference)
    return _share_of_numbers(prediction, paragraph[1]) if paragraph else 0.0


def retrieval_zh(prediction: str, reference: str) -> float:
    """The share of numbers said that are the paragraph's (LongBench/metrics.py, `retrieval_zh_score`)."""
    paragraph = re.search(r"段落(\d+)", reference)
    return _share_of_numbers(prediction, paragraph[1]) if paragraph else 0.0


def count(prediction: str, reference: str) -> float:
    """The share of numbers said that are the right one (LongBench/metrics.py, `count_score`)."""
    return _share_of_numbers(prediction, reference)


def _share_of_numbers(prediction: str, right: str) -> float:
    numbers = re.findall(r"\d+", prediction)
    return numbers.count(right) / len(numbers) if numbers else 0.0


def code_similarity(prediction: str, reference: str) -> float:
    """How alike the first line of code and the reference are, in whole percent.

    As in LongBench/metrics.py, `code_sim_score`. The first line without a backtick, # or // counts, leading newlines
    aside. `fuzzywuzzy.fuzz.ratio` takes its ratio from difflib, unless python-Levenshtein is installed, which
    LongBench's requirements do not ask for. The ratios differ: Levenshtein and rapidfuzz count a longest common
    subsequence, difflib blocks of equal characters.
    """
    lines = prediction.lstrip("\n").split("\n")
    line = next((line for line in lines if not _COMMENT_OR_QUOTE.search(line)), "")
    if line == reference:
        return 1.0
    # No more characters than the shorter text has can be alike; what must round to 0 is not compared.
    if len(line) + len(reference) >= 400 * min(len(line), len(reference)):
        return 0.0
    return round(100 * SequenceMatcher(None, line, reference).ratio()) / 100
