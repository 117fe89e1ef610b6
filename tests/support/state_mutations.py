"""State files of an execution changed at random: their values, their bytes, their names, and what they are."""

from __future__ import annotations

import copy
import json
import os
import random
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

__all__ = ["mutate_state"]

ODD_VALUES: list[Any] = [
    None, True, False, 0, -1, 1, 2, 10**9, 10**30, -(10**400), 0.5, -0.0, 1e308, float("nan"), float("inf"),
    "", " ", ".", "..", "../x", "../../../../outside/x", "/", "/dev/zero", "/dev/stdin", "/proc/self/mem", "~", "²",
    "a" * 300, "a" * 5000, "é", "\u202e", "a\tb", "a\nb", "\x1b[31m", "\ud800", "\0", "a\0b", "*", "[", "%s", "[red]",
    "failed", "complete", "running", "broken", "slurm", "local", "slurm-²", "x-1", "1", "10_²", "1" * 5000,
    [], [[]], {}, {"a": {}}, [None], {"": 1}, [1, 2, 3], ["a"], {"../../../../outside/x": "00"}, {"/dev/zero": "00"},
    {"..": 1}, {".": "00"}, {"stub.json": 10**30}, {"a": float("nan")},
]  # fmt: skip
ODD_KEYS = [value for value in ODD_VALUES if isinstance(value, str)]
NUMBERS = ["²", "٣", "0", "00", "01", "-1", "1.5", "", "x", "9" * 30, "9" * 12, "123456", " 1", "1 ", "1_0", "\udcff"]
"""What may stand in a file's name where a number belongs."""
NOISE = [
    b"\xff",
    b"\0",
    b"\r",
    b"NaN",
    b"Infinity",
    b"1e999",
    b"\\ud800",
    b"\xed\xa0\x80",
    b'"',
    b",",
    b"{",
    b"]",
    b"9" * 5000,
]


def mutate_state(root: Path, rng: random.Random, only: Sequence[str]) -> Path:
    """Changes one file below these folders of `root` at random, and returns its path; afterwards the file may be gone,
    or be no file.
    """
    files = sorted(path for folder in only for path in (root / folder).rglob("*") if path.is_file())
    rooms = sorted({path.parent.name if path.suffix != ".json" else path.name for path in files})
    room = rng.choice(rooms)  # each kind of file as often as any other, however many files it has
    path = rng.choice([path for path in files if room in (path.parent.name, path.name)])
    change = rng.choice([_change_values] * 6 + [_change_bytes] * 2 + [_change_kind] + [_change_name] * 2)
    change(path, rng)
    return path


def _change_values(path: Path, rng: random.Random) -> None:
    """In a file of JSON values, one a line or one in all; another file gets its bytes changed."""
    lines = [path.read_bytes()] if path.suffix == ".json" else path.read_bytes().split(b"\n")
    place = 0 if rng.random() < 0.6 else rng.randrange(len(lines))
    try:
        value = json.loads(lines[place])
    except ValueError:
        _change_bytes(path, rng)
        return
    holder = {"": value}
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        _change_value(holder, rng)
    lines[place] = json.dumps(holder.get("")).encode()
    path.write_bytes(b"\n".join(lines))


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) in a tree of lists and mappings."""
    if not isinstance(value, (dict, list)):
        return []
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    return [place for key in keys for place in [(value, key), *_places(value[key])]]


def _change_value(holder: dict[str, Any], rng: random.Random) -> None:
    every = _places(holder)
    container, key = rng.choice([place for place in every if place[1] != ""] or every or [({"": 0}, "")])
    odd = copy.deepcopy(rng.choice(ODD_VALUES))
    kind = rng.choice(("delete", "replace", "replace", "replace", "number", "insert", "rename", "swap", "nest"))
    if kind == "delete":
        del container[key]
    elif kind == "replace":
        container[key] = odd
    elif kind == "number":
        container[key] = rng.choice([str, lambda text: text.upper(), lambda text: text[::-1]])(str(container[key]))
    elif kind == "nest":
        for _ in range(rng.choice((1, 2, 150))):
            container[key] = [container[key]]
    elif kind == "swap":
        other, there = rng.choice(every)
        other[there] = copy.deepcopy(container[key])
    elif isinstance(container, list):
        container.insert(key, odd)
    elif kind == "insert":
        container[rng.choice(ODD_KEYS)] = odd
    else:
        container[rng.choice(ODD_KEYS)] = container.pop(key)


def _change_bytes(path: Path, rng: random.Random) -> None:
    raw = path.read_bytes()
    start = rng.randrange(len(raw) + 1)
    end = start + rng.randrange(1, 30)
    path.write_bytes(
        rng.choice(
            (
                b"",
                raw[:start],
                raw[start:],
                raw[:start] + rng.choice(NOISE) + raw[start:],
                raw[:start] + rng.choice(NOISE) + raw[end:],
                raw[:start] + raw[start:end] * 2 + raw[end:],
                b"[" * 100_000,
                b'{"a":' * 100_000,
                b"[" * 900 + b"]" * 900,
                b"\0" * len(raw),
                raw + raw,
                b"[]\n",
                b"{}\n",
                b"5\n",
                b"null\n",
            )
        )
    )


def _loop(path: Path) -> None:
    path.symlink_to(path.name)


def _outside(path: Path) -> None:
    path.symlink_to("/dev/zero")


KINDS: list[Callable[[Path], None]] = [
    Path.mkdir, os.mkfifo, os.mkfifo, _loop, _outside, lambda path: path.symlink_to("nowhere"), lambda path: None,
]  # fmt: skip
"""What takes a file's place; the last one is nothing."""


def _change_kind(path: Path, rng: random.Random) -> None:
    path.unlink()
    rng.choice(KINDS)(path)


def _change_name(path: Path, rng: random.Random) -> None:
    """A copy or the file itself under another name, or in a folder of its name."""
    stem, suffix = (path.name.removesuffix(".json"), ".json") if path.suffix == ".json" else (path.name, "")
    number = rng.choice(NUMBERS)
    name = rng.choice((f"{stem.rpartition('.')[0]}.{number}{suffix}", f"{stem}{number}{suffix}", f"{number}{suffix}"))
    if not name or (path.parent / name).exists():
        return
    if rng.random() < 0.5:
        path.rename(path.parent / name)
    else:
        shutil.copy(path, path.parent / name)
