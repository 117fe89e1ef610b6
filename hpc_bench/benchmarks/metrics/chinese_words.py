"""Cuts Chinese text into words with jieba, in time linear in its length."""

from __future__ import annotations

import re
import warnings
from functools import cache, lru_cache
from typing import Any

__all__ = ["chinese_words"]

_MAX_RUN = 2_500
_CHINESE = "\u4e00-\u9fd5"
_RUN = f"{_CHINESE}a-zA-Z0-9+#&._%-"  # what jieba cuts into words together (jieba/__init__.py, `re_han_default`)
_SPECIAL = re.compile(
    f"(?P<plain>(?:[^{_RUN}]++|(?<![{_RUN}])[a-zA-Z0-9._%-]++(?![{_RUN}]))++)"
    f"|(?P<long>(?<![{_RUN}])[{_RUN}]{{{_MAX_RUN + 1},}}+)"
)
_PLAIN_WORD = re.compile(r"[a-zA-Z0-9]+(?:\.[0-9]+)?%?|[._%-]+|\r\n|.", re.DOTALL)
"""What jieba parts text without Chinese by (jieba/__init__.py, `re_skip_default`; finalseg/__init__.py, `re_skip`)."""


@lru_cache(8)  # one prediction meets several references
def chinese_words(text: str) -> tuple[str, ...]:
    """The words of `text`, spaces and punctuation included, as `jieba.cut` finds them.

    Of runs without spaces and punctuation, jieba's time grows with the square of their length. Those of more than
    2,500 characters, which no answer of LongBench's length has, are therefore cut into pieces first. Text without
    Chinese characters needs no dictionary, since none of its words could be in it.
    """
    words: list[str] = []
    start = 0
    for special in _SPECIAL.finditer(text):
        words += _tokenizer().cut(text[start : special.start()])
        words += _PLAIN_WORD.findall(special[0]) if special["plain"] else _words_of_pieces(special[0])
        start = special.end()
    words += _tokenizer().cut(text[start:])
    return tuple(words)


def _words_of_pieces(run: str) -> list[str]:
    pieces = (run[start : start + _MAX_RUN] for start in range(0, len(run), _MAX_RUN))
    return [word for piece in pieces for word in _tokenizer().cut(piece)]


@cache
def _tokenizer() -> Any:
    """jieba's default one, its dictionary read without the cache file in the folder of temporary files.

    Another user may have written that file, and jieba would read whatever it holds.
    """
    tokenizer = _jieba().Tokenizer()
    tokenizer.FREQ, tokenizer.total = tokenizer.gen_pfdict(tokenizer.get_dict_file())
    tokenizer.initialized = True
    return tokenizer


@cache
def _jieba() -> Any:
    """The package, without the warnings about its regular expressions and its use of pkg_resources."""
    with warnings.catch_warnings():
        for category in (DeprecationWarning, SyntaxWarning, UserWarning):
            warnings.filterwarnings("ignore", r"(?s).*(invalid escape sequence|pkg_resources)", category)
        import jieba

        return jieba
