"""Cuts Chinese text into words with jieba."""

from __future__ import annotations

import re
import warnings
from functools import cache
from typing import Any

__all__ = ["chinese_words"]

_MAX_RUN = 2_500
_LONG_RUN = re.compile(f"[\u4e00-\u9fd5]{{{_MAX_RUN + 1},}}")
"""Chinese characters without anything between them, more than an answer of LongBench can hold: jieba's time grows with
the square of their number."""


def chinese_words(text: str) -> list[str]:
    """The words of `text`, spaces and punctuation included, as `jieba.cut` finds them.

    Runs of more than 2,500 Chinese characters are cut into pieces of that size first, so that time stays linear.
    """
    words: list[str] = []
    start = 0
    for run in _LONG_RUN.finditer(text):
        for end in range(run.start() + _MAX_RUN, run.end(), _MAX_RUN):
            words += _tokenizer().cut(text[start:end])
            start = end
    words += _tokenizer().cut(text[start:])
    return words


@cache
def _tokenizer() -> Any:
    """jieba's default one, its dictionary read without the cache file in the folder of temporary files.

    Another user may have written that file, and jieba would read whatever it holds.
    """
    with warnings.catch_warnings():
        for category in (DeprecationWarning, SyntaxWarning):  # of its regular expressions, while it is compiled
            warnings.filterwarnings("ignore", "invalid escape sequence|.* is an invalid escape", category)
        warnings.filterwarnings("ignore", "pkg_resources is deprecated", UserWarning)
        warnings.filterwarnings("ignore", ".*pkg_resources", DeprecationWarning)
        import jieba
    tokenizer = jieba.Tokenizer()
    tokenizer.FREQ, tokenizer.total = tokenizer.gen_pfdict(tokenizer.get_dict_file())
    tokenizer.initialized = True
    return tokenizer
