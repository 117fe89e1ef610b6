"""A wordnet of a few synonyms on disk, in the files that nltk reads, for processes that tests start."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

__all__ = ["write_wordnet"]

_EMPTY = (
    "cntlist.rev", "index.sense", "index.adj", "index.adv", "index.verb", "data.adj", "data.adv", "data.verb",
    "adj.exc", "adv.exc", "noun.exc", "verb.exc",
)  # fmt: skip


def write_wordnet(nltk_data: Path, synonyms: Sequence[Sequence[str]]) -> Path:
    """The folder that NLTK_DATA names; each group of words is one noun's meaning."""
    folder = nltk_data / "corpora" / "wordnet"
    folder.mkdir(parents=True)
    for name in _EMPTY:
        (folder / name).write_text("")
    (folder / "lexnames").write_text("00\tnoun.Tops\t1\n")
    meanings, places = "  a header, as in the real files\n", dict[str, list[int]]()
    for group in synonyms:
        place = len(meanings)
        words = " ".join(f"{word} 0" for word in group)
        meanings += f"{place:08d} 00 n {len(group):02x} {words} 000 | a meaning\n"
        for word in group:
            places.setdefault(word, []).append(place)
    (folder / "data.noun").write_text(meanings)
    (folder / "index.noun").write_text("".join(_index_line(word, found) for word, found in sorted(places.items())))
    return nltk_data


def _index_line(word: str, places: Sequence[int]) -> str:
    return f"{word} n {len(places)} 0 {len(places)} 0 {' '.join(f'{place:08d}' for place in places)}\n"
