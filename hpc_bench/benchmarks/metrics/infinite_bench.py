"""How InfiniteBench scores one answer; every function gives 0-1 (OpenBMB/InfiniteBench, src/compute_scores.py as of its
last change, pull request 22).

References are those that `infinite_bench` makes at loading: each is an acceptable answer in itself.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress

from hpc_bench.benchmarks.metrics.qa_f1 import best_qa_f1
from hpc_bench.benchmarks.metrics.rouge_lsum import rouge_lsum

__all__ = [
    "score_code_debug",
    "score_code_run",
    "score_first_digits",
    "score_longbook_choice",
    "score_longbook_qa",
    "score_longbook_qa_zh",
    "score_longbook_sum",
    "score_longdialogue",
    "score_math_calc",
    "score_math_find",
    "score_retrieved_word",
]

_CHINESE_PUNCTUATION = (
    "！？｡。＂＃＄％＆＇（）＊＋，－／：；＜＝＞＠［＼］＾＿｀｛｜｝～｟｠｢｣､、〃》"  # noqa: RUF001
    "「」『』【】〔〕〖〗〘〙〚〛〜〝〞〟〰〾〿–—‘’‛“”„‟…‧﹏."  # noqa: RUF001
)
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation + _CHINESE_PUNCTUATION)


def _spaces(characters: str) -> dict[int, str]:
    return str.maketrans(dict.fromkeys(characters, " "))


_AROUND_WORDS = _spaces("\n:\"'.,?!{}")
_AROUND_CODE = _spaces("\n.`'\":")
_AROUND_LETTERS = _spaces("\n\"'.,?!{}")
_AROUND_OPTIONS = _spaces("\n`'\"-*")


def score_first_digits(prediction: str, references: Sequence[str]) -> float:
    """Whether the first run of digits is the label (`get_score_one_passkey`, `get_score_one_number_string`)."""
    found = re.search("[0-9]+", prediction)
    return float(found is not None and found[0] == references[0])


def score_retrieved_word(prediction: str, references: Sequence[str]) -> float:
    """Whether the label is a word of the answer (`get_score_one_kv_retrieval`)."""
    return float(references[0] in prediction.translate(_AROUND_WORDS).split())


def score_longdialogue(prediction: str, references: Sequence[str]) -> float:
    """Whether any label is in the answer, upper or lower case (`get_score_one_longdialogue_qa_eng`)."""
    said = prediction.strip().upper()
    return float(any(reference.upper() in said for reference in references))


def score_code_run(prediction: str, references: Sequence[str]) -> float:
    """Whether the last word is the label's integer (`get_score_one_code_run`)."""
    words = prediction.translate(_AROUND_CODE).split()
    with suppress(ValueError):
        return float(bool(words) and int(words[-1]) == int(references[0]))
    return 0.0


def score_code_debug(prediction: str, references: Sequence[str]) -> float:
    """Whether the letter is the last lone one of the answer's first line with lone letters A-J; else whether the answer
    starts with the letter or the function's name, or has them behind "answer is:" and the like
    (`get_score_one_code_debug`).
    """
    letter, name = _split_option(references[0])
    answer = prediction.strip()
    text = _squeeze(answer.translate(_AROUND_OPTIONS).replace("Option", " ").replace("option", " "))
    if _last_lone("[A-J]", answer) == letter or _starts_with_any(text, (letter, name)):
        return 1.0
    said = _behind_prefix(text, ("answer is:", "is:", "answer:"))  # "correct option is:" holds "is:"
    return float(said is not None and _starts_with_any(said, (letter, name)))


def score_longbook_choice(prediction: str, references: Sequence[str]) -> float:
    """Whether the letter is the last lone one of the answer's first line with lone letters A-D; else whether the answer
    starts with it; else, unless it starts with another, whether the answer is the option's text, or what is behind
    "answer is" and the like starts with either; else the first word of these letters
    (`get_score_one_longbook_choice_eng`). An empty answer is wrong.
    """
    label = _split_option(references[0])
    answer = prediction.strip()
    if _last_lone("[A-D]", answer) in label:
        return 1.0
    if answer.startswith(tuple("ABCD")):
        return float(answer[0] in label)
    if answer and answer in label:
        return 1.0
    text = _squeeze(answer.translate(_AROUND_LETTERS))
    said = _behind_prefix(text, ("answer is:", "answer:", "answer is", "option is"))
    if said is not None:
        return float(_starts_with_any(said, label))
    return float(next((word for word in text.split() if word in "ABCD"), None) in label)


def _split_option(reference: str) -> tuple[str, str]:
    """`A. text` as letter and text."""
    return reference[:1], reference[3:]


def _last_lone(letters: str, text: str) -> str | None:
    r"""The last letter that is a word of its own, on the first line that has one; None: there is none.

    What the official `\b[A-J]\b(?!.*\b[A-J]\b)` finds, without reading on to the line's end from every letter.
    """
    lone = rf"\b{letters}\b"
    first = re.search(lone, text)
    return re.findall(lone, text[first.start() :].partition("\n")[0])[-1] if first else None


def _squeeze(text: str) -> str:
    return re.sub(" +", " ", text)


def _behind_prefix(text: str, prefixes: Sequence[str]) -> str | None:
    """What follows the first of the prefixes that is there, after one more character; None: there is none."""
    for prefix in prefixes:
        _, found, behind = text.partition(prefix)
        if found:
            return behind[1:]
    return None


def _starts_with_any(text: str, starts: Sequence[str]) -> bool:
    return any(start and text.startswith(start) for start in starts)


def score_math_find(prediction: str, references: Sequence[str]) -> float:
    """Whether the first number equals the label (`get_score_one_math_find`).

    5.0 and 5 are equal; the official scorer ends with an error where the label is whole and the answer has a point.
    """
    found = re.search(r"\d+(?:\.\d+)?", prediction)
    with suppress(ValueError):
        return float(found is not None and float(found[0]) == float(references[0]))
    return 0.0


def score_math_calc(prediction: str, references: Sequence[str]) -> float:
    """The share of the label's numbers said before the first mistake (`get_score_one_math_calc`)."""
    wanted = re.findall("-?[0-9]+", references[0])
    right = 0
    for number, said in zip(wanted, re.finditer("[0-9]+", prediction), strict=False):
        if number != (said[0].lstrip("0") or "0"):
            break
        right += 1
    return right / len(wanted) if wanted else 0.0


def score_longbook_qa(prediction: str, references: Sequence[str]) -> float:
    """The best F1 over words (`get_score_one_longbook_qa_eng`), whose normalization is LongBench's."""
    return best_qa_f1(prediction, references)


def score_longbook_qa_zh(prediction: str, references: Sequence[str]) -> float:
    """The best F1 over characters (`get_score_one_longbook_qa_chn`)."""
    said = _normalize_zh(prediction)
    return max((_character_f1(said, _normalize_zh(reference)) for reference in references), default=0.0)


def _character_f1(said: str, wanted: str) -> float:
    """As `f1_score` counts it."""
    shared = sum((Counter(said) & Counter(wanted)).values())
    if shared == 0:
        return 0.0
    precision, recall = shared / len(said), shared / len(wanted)
    return 2 * precision * recall / (precision + recall)


def _normalize_zh(text: str) -> str:
    """Lower case without spaces and punctuation, ASCII or Chinese (`normalize_zh_answer`)."""
    return "".join(text.lower().translate(_NO_PUNCTUATION).split())


def score_longbook_sum(prediction: str, references: Sequence[str]) -> float:
    """The best rougeLsum, a sentence being a line (`get_score_one_longbook_sum_eng`)."""
    return rouge_lsum(prediction, references)
