"""`hpc-bench attention list` and `show`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from hpc_bench import catalog
from tests.support.builders import run_cli, tree, write_sweep

KEYS: dict[str, Any] = {
    "model_names": ["demo/tiny-2l"],
    "sparse_attention_configs": {
        "dense": None,
        "streaming": [{"streaming": {"sink": 3, "local": 5}}],
        "sampled": [{"sink": 2}, {"local": 2}, {"random_sampling": 0.3}],
        "everywhere": {"maskers": [{"sink": 3}, {"local": 5}], "sparse_prefill": True},
        "everything": [{"sink": 1.0}],
    },
}


def show(folder: Path, config: str, *options: str | Path) -> list[str]:
    result = run_cli("attention", "show", write_sweep(folder, **KEYS), config, *options)
    assert result.exit_code == 0, result.output
    return result.stdout.splitlines()


def rows_of(lines: list[str]) -> dict[int, str]:
    """Query position -> its line of the drawing."""
    return {int(line[:6]): line[8:] for line in lines if line[:6].strip().isdigit()}


def test_list_shows_every_masker_with_parameters_defaults_source_and_meaning() -> None:
    result = run_cli("attention", "list")

    assert result.exit_code == 0
    for name in catalog.names("masker"):
        assert f"│ {name} " in result.stdout
    words = " ".join(result.stdout.split())
    for part in ("page_size: int = 16", "arXiv 2406.10774", "channels: file", "Keeps the first `size` visible keys"):
        assert part in words


def test_list_of_one_shows_what_its_parameters_mean() -> None:
    result = run_cli("attention", "list", "quest")

    assert result.exit_code == 0
    assert "\n  heavy (needed): int: tokens; float: share of the keys that a query sees. Whole pages" in result.stdout
    assert "\n  page_size (default 16): Tokens.\n" in result.stdout


def test_list_of_an_unknown_masker_names_the_nearest() -> None:
    result = run_cli("attention", "list", "qest")

    assert result.exit_code == 2
    assert "did you mean 'quest'" in result.stderr


def test_drawing_is_the_mask(tmp_path: Path) -> None:
    lines = show(tmp_path, "streaming", "--context", "30", "--question", "10")

    rows = rows_of(lines)
    assert len(rows) >= 9
    last = max(rows)
    for position, row in rows.items():
        assert row == "███" + "·" * (position - 7) + "█████" + " " * (last - position)
    kept = sum(8 for _ in rows) / sum(position + 1 for position in rows)
    assert f"{kept:.1%} of the visible keys" in lines[0]


def test_sampled_keys_are_drawn_as_such(tmp_path: Path) -> None:
    rows = rows_of(show(tmp_path, "sampled"))

    assert all(row.startswith("██") and "▒" in row and "·" in row for row in rows.values())


def test_sparse_prefill_shows_the_context_too(tmp_path: Path) -> None:
    rows = rows_of(show(tmp_path, "everywhere", "--context", "20", "--question", "4"))

    assert rows[0].startswith("█ ")
    assert min(rows) == 0
    assert "···" in rows[max(rows)]


def test_budget_beyond_the_text_is_said(tmp_path: Path) -> None:
    assert "everything was kept" in show(tmp_path, "everything")[-1]


def test_png_is_an_image_and_is_never_overwritten(tmp_path: Path) -> None:
    image = tmp_path / "mask.png"

    show(tmp_path, "streaming", "--png", image)

    with Image.open(image) as opened:
        assert opened.format == "PNG"
        assert opened.width > 400
    before = tree(tmp_path)
    again = run_cli("attention", "show", tmp_path / "sweep.yaml", "streaming", "--png", image)
    assert (again.exit_code, again.stderr.count("\n")) == (2, 1)
    assert "exists already" in again.stderr
    assert tree(tmp_path) == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nope"], ("sweep.yaml", "unknown config 'nope'", "streaming")),
        (["dense"], ("sparse_attention_configs.dense", "keeps every key")),
        (["streaming", "--layer", "2"], ("layers 0 to 1", "no layer 2")),
        (["streaming", "--head", "4"], ("heads 0 to 3", "no head 4")),
        (["streaming", "--model", "demo/none"], ("--model: ", "demo/tiny-2l")),
        (["streaming", "--png", "no/such/folder/x.png"], ("--png: ", "cannot be written")),
    ],
)
def test_mistakes_are_one_line(tmp_path: Path, arguments: list[str], words: tuple[str, ...]) -> None:
    result = run_cli("attention", "show", write_sweep(tmp_path, **KEYS), *arguments)

    assert (result.exit_code, result.stderr.count("\n")) == (2, 1), result.stderr
    for word in words:
        assert word in result.stderr
