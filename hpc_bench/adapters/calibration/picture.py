"""Draws what a chain of maskers keeps of a short prompt: as text, and as PNG."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from hpc_bench.attention.base import AttentionConfig
from hpc_bench.benchmarks.suites.needle import Needle

if TYPE_CHECKING:
    import numpy as np

    from hpc_bench.adapters.huggingface import HuggingFaceAdapter

__all__ = ["Picture", "draw_mask", "save_png"]

_MOST_ROWS = 40
_KEPT, _PARTLY, _DROPPED, _HIDDEN = "█", "▒", "·", " "


@dataclass(frozen=True)
class Picture:
    """The mask of one head of one layer."""

    probability: np.ndarray
    """float32 [queries, keys]: 0 dropped, 1 kept, p sampled; NaN where causality hides the key"""
    context: int
    """How many of the keys are the context's."""
    layers: int
    heads: int

    @property
    def density(self) -> float:
        """Share of the visible keys that are kept."""
        visible = self.probability == self.probability
        return float((self.probability > 0).sum() / visible.sum())

    def scale(self, width: int) -> str:
        """What a line and a character stand for."""
        queries, keys = self.probability.shape
        parts = (f"a line is {-(-queries // _MOST_ROWS)} queries", f"a character is {-(-keys // (width - 8))} keys")
        return "; ".join(
            part for part, shown in zip(parts, (queries > _MOST_ROWS, keys > width - 8), strict=True) if shown
        )

    def lines(self, width: int) -> list[str]:
        """One line a query (or a few), one character a key (or a few): kept, partly or by chance, dropped, hidden."""
        queries, keys = self.probability.shape
        rows, columns = _edges(queries, _MOST_ROWS), _edges(keys, width - 8)
        first = keys - queries
        return [
            f"{first + above:6d}  "
            + "".join(_symbol(self.probability[above:below, left:right]) for left, right in pairwise(columns))
            for above, below in pairwise(rows)
        ]


def _edges(size: int, most: int) -> list[int]:
    """Where at most `most` equal parts of `size` begin and end."""
    parts = min(size, max(1, most))
    return [size * part // parts for part in range(parts + 1)]


def _symbol(part: np.ndarray) -> str:
    seen = part[part == part]
    if not seen.size:
        return _HIDDEN
    if (seen == 1).all():
        return _KEPT
    return _PARTLY if (seen > 0).any() else _DROPPED


def draw_mask(
    adapter: HuggingFaceAdapter, attention: AttentionConfig, context: int, question: int, layer: int, head: int
) -> Picture:
    """What `attention` keeps for the last `question` tokens of a text of `context` + `question` tokens, made of needle
    sentences; ValueError if the model has no such layer or head.
    """
    before, behind = _texts(adapter, context, question)
    selections = adapter.selections(before, behind, attention)
    if layer not in selections:
        raise ValueError(f"the model has layers 0 to {max(selections)}, and no layer {layer}")
    heads = len(selections[layer])
    if head >= heads:
        raise ValueError(f"the model has heads 0 to {heads - 1}, and no head {head}")
    kept = selections[layer][head].numpy()
    return Picture(kept, kept.shape[1] - adapter.count_tokens(behind), len(selections), heads)


def _texts(adapter: HuggingFaceAdapter, context: int, question: int) -> tuple[str, str]:
    """About that many tokens each, cut between words."""
    sample = next(iter(Needle(samples=1).load(str(max(256, 2 * (context + question))), adapter.tokens)))
    words = sample.context.split(" ")
    before = _words_of(adapter, words, context, "")
    return " ".join(words[:before]), _words_text(words[before:], _words_of(adapter, words[before:], question, " "), " ")


def _words_of(adapter: HuggingFaceAdapter, words: list[str], tokens: int, lead: str) -> int:
    """How many of the words have at least `tokens` tokens, `lead` in front of them."""
    low, high = 1, len(words)
    while low < high:
        middle = (low + high) // 2
        enough = adapter.count_tokens(_words_text(words, middle, lead)) >= tokens
        low, high = (low, middle) if enough else (middle + 1, high)
    return low


def _words_text(words: list[str], count: int, lead: str) -> str:
    return lead + " ".join(words[:count])


def save_png(picture: Picture, title: str, path: Path) -> None:
    """Writes the mask as an image: queries from above, keys from the left, brighter where kept with more chance."""
    from matplotlib.figure import Figure

    queries, keys = picture.probability.shape
    figure = Figure(figsize=(10, max(2.5, 10 * queries / keys + 1.5)), layout="constrained")
    axes = figure.add_subplot()
    extent = (-0.5, keys - 0.5, keys - 0.5, keys - queries - 0.5)
    image = axes.imshow(
        picture.probability, vmin=0, vmax=1, cmap="viridis", aspect="auto", extent=extent, interpolation="nearest"
    )
    axes.axvline(picture.context - 0.5, color="red", linewidth=0.8)
    axes.set(title=title, xlabel="key (context left of the red line)", ylabel="query")
    figure.colorbar(image, label="probability of being kept")
    figure.savefig(path, format="png", dpi=150)
