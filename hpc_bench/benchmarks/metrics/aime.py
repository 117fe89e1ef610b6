"""Which integer from 0 to 999 an answer to an AIME problem gives; there is no official scorer.

The library math-verify (0.9) is not used: it reads 0 in the unfilled box of "204 in the form \\boxed{...}", joins
several boxes into one value, multiplies by a modulus, and takes minutes for a megabyte of opening boxes, which only an
alarm signal in the main thread ends.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

__all__ = ["extract_answer", "integer_in"]

_BRACES = re.compile(r"\\(?:boxed|fbox)\s*\{|\\.|[{}]")
_NOTHING = re.compile(r"\\[a-z]*dots[a-z]?|\\(?:square|Box|quad|_)")
"""What stands in a box that is still to be filled."""
_STATEMENT = re.compile(
    r"(?i:answer|\u7b54\u6848)[^\n.=:]{0,60}?(?:\b(?:is|are)\b|[:=]|\u662f|\u4e3a|\uff1a)"
    r"(?:[\s*_$`:({\[]|\\[(\[,; ]|\\(?:text|math)[a-z]*|\b(?:approximately|about|exactly|simply|just|equal to)\b)*"
)
"""An announcement, up to what it announces."""
_LONGEST = 200
"""Characters of what is read as one value."""
_CLAUSE_END = re.compile(r"[.,;!?](?!\S)|[\u3002\uff0c]|\s(?:since|because)\b")
_EXPRESSION = re.compile(
    r"\s*[}$)]*\s*(?:[-+*/^=!]|\\(?:cdot|times|div|over|d?frac)\b)\s*[-\d\\({]|\s*[({]*\\?[bp]?mod\b"
)
"""What makes a number the start of an expression."""
_REASON = re.compile(r"(?<=\S)\s+(?:since|because)\b")
_NOTE = re.compile(r"\W*confidence\b", re.IGNORECASE)
_NUMBER = re.compile(r"(?<![0-9)])-?[0-9]+(?:\{?,\}?[0-9]{3}(?![0-9]))*(?:\.[0-9]+)*")
"""A comma parts thousands, and else a list; a minus behind a digit is no sign."""

_STYLED = re.compile(r"(?P<style>\\(?:(?:text|math)[a-z]*|mbox|color))\{(?P<inside>[^{}]*)\}(?P<power>\^\{?[0-9]\}?)?")
_MODULUS = re.compile(r"\(?(?:\\[a-z]+\{)?[(\\]?[pb]?mod(?:ulo)?\}?[({]?[0-9]+[)}]*")
_BASE_TEN = re.compile(r"_(?:10|\{10\})")
_ORNAMENTS = re.compile(
    r"\\(?:(?:text|math)[a-z]*|mbox|fbox|underline|bm|boldsymbol|displaystyle|bf|rm|large|quad|left|right)"
    r"|\\[$,;:!()\[\]\\]|\^\{?\\circ\}?|\\?%|[${}()~°*\"'`]"
)
_EQUALITY = re.compile(r"=|≈|≡|\\(?:approx|equiv)(?![a-z])")
_FRAME = re.compile(r"^(?:the)?(?:final)?answer(?:is)?:?|(?<=[0-9])[a-z]{2,}$", re.IGNORECASE)
"""An announcement before a number, or a unit behind it."""


def extract_answer(prediction: str) -> str | None:
    r"""The integer in the last `\boxed{}` that is filled in; None if it holds something else.

    Without a box: the number that the last "the answer is" or "answer:" announces. Without that: the last integer of
    one to three digits of the last line that says something, reasons ("since ...") left out. No leading zeros.
    """
    box = next((box for box in _boxes(prediction) if _is_filled(box)), None)
    if box is not None:
        return integer_in(box)
    stated = _stated(prediction)
    if stated is not None:
        return integer_in(stated)
    numbers = [re.sub(r"\.0+$", "", number) for number in _NUMBER.findall(_last_line(prediction))]
    short = [number for number in numbers if re.fullmatch("[0-9]{1,3}", number)]
    return integer_in(short[-1]) if short else None


def _boxes(text: str) -> Iterator[str]:
    """What is in the boxes that are closed, the one that opens last first; one pass, whatever is nested in what."""
    opened: list[int] = []
    closed: list[tuple[int, int]] = []
    for brace in _BRACES.finditer(text, _first_box(text)):
        mark = brace[0]
        if mark == "}" and opened:
            start = opened.pop()
            if start >= 0:
                closed.append((start, brace.start()))
        elif mark == "{":
            opened.append(-1)
        elif mark[-1] == "{" and len(mark) > len("\\{"):
            opened.append(brace.end())
    return (text[start:end] for start, end in sorted(closed, reverse=True))


def _first_box(text: str) -> int:
    """So that braces before it, which need not match, are not read; the text's end if there is no box."""
    return min((place for box in ("\\boxed", "\\fbox") if (place := text.find(box)) >= 0), default=len(text))


def _is_filled(box: str) -> bool:
    r"""Not `\boxed{...}` or `\boxed{\text{answer}}`, as in "the answer in the form"."""
    said = _NOTHING.sub("", box)
    return bool(re.search("[0-9]", said)) or bool(re.search(r"\w", said) and "answer" not in said.lower())


def _stated(text: str) -> str | None:
    """The number or equation that the last announcement of an answer announces; None: there is none."""
    for announced in reversed(list(_STATEMENT.finditer(text))):
        line = text[announced.end() : announced.end() + _LONGEST].partition("\n")[0].replace("**", "")
        if not re.search("[0-9]", line):
            continue
        number = _NUMBER.match(line)
        if number and not _EXPRESSION.match(line, number.end()):
            return number[0]
        clause = _CLAUSE_END.split(line, maxsplit=1)[0]
        if number or (_EQUALITY.search(clause) and re.search("[0-9]", clause)):
            return clause
    return None


def _last_line(text: str) -> str:
    """The last line with a word or number in it, notes such as `Confidence: 95%` and reasons left out."""
    for line in reversed(text.rstrip().split("\n")):
        if re.search(r"\w", line) and not _NOTE.match(line):
            return _REASON.split(line, maxsplit=1)[0][-_LONGEST:]
    return ""


def integer_in(text: str) -> str | None:
    """The integer from 0 to 999 that a text is, bare of LaTeX's ornaments, of a unit, a modulus and of what it equals;
    None: it is something else.
    """
    if len(text) > _LONGEST:
        return None
    compact = _BASE_TEN.sub("", _MODULUS.sub("", re.sub(r"\\?\s+", "", text)))
    bare = _ORNAMENTS.sub("", _STYLED.sub(_keep_numbers, compact))
    values = [value for side in _EQUALITY.split(bare) if (value := _plain_integer(side)) is not None]
    return values[-1] if values else None


def _plain_integer(text: str) -> str | None:
    number = _FRAME.sub("", text.strip(" .,;:")).strip(" .,;:+")
    whole = re.sub(r"\.0+$", "", number)
    digits = whole.lstrip("0") or whole[-1:]
    return digits if re.fullmatch("[0-9]{1,3}", digits) else None


def _keep_numbers(styled: re.Match[str]) -> str:
    """A word leaves a gap: numbers on both sides of it are two. A variable in a font of its own is no word."""
    power = styled["power"] or ""
    is_word = not re.search("[0-9]", styled["inside"]) and not re.match(r"\\math(?!rm)", styled["style"])
    return " " if is_word else styled["inside"] + power
