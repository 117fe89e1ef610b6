"""METEOR as LooGLE's authors compute it: on Python sets of words, whose order depends on the interpreter's hash seed.

A running process cannot choose its seed, so child interpreters score; this module is also their program, which reads
pairs of words as JSON from stdin and writes scores as JSON to stdout.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from zipfile import BadZipFile

__all__ = ["HASH_SEEDS", "meteor_scores"]

HASH_SEEDS = (0, 1, 2, 3)
"""The first gives the score; the others show how far it depends on the seed."""
_FETCH = "python -m nltk.downloader --force wordnet"


class _NoMeteorError(Exception):
    """Says why METEOR cannot be had here."""


def meteor_scores(pairs: Sequence[tuple[str, str]]) -> tuple[list[list[float]], str]:
    """METEOR of each pair of prediction and reference, 0-1, once for each of `HASH_SEEDS` (LooGLE,
    Evaluation/automatic_metrics.py, `get_meteor_score`), and by which Python and nltk; or nothing, and why not.
    """
    question = json.dumps(pairs)
    try:
        _check_wordnet()
        with ThreadPoolExecutor(len(HASH_SEEDS)) as pool:
            scores = list(pool.map(lambda seed: _ask_child(question, seed), HASH_SEEDS))
    except _NoMeteorError as error:
        return [], f"no meteor: {error}"
    about = f"meteor: Python {platform.python_version()}, nltk {version('nltk')}, PYTHONHASHSEED={HASH_SEEDS[0]}"
    return scores, about


def _check_wordnet() -> None:
    """Spares the child interpreters where the data is absent, which is the usual reason."""
    from nltk import data

    try:
        data.find("corpora/wordnet")
    except LookupError as error:
        raise _NoMeteorError("nltk's wordnet is not here (python -m nltk.downloader wordnet)") from error
    except (OSError, BadZipFile) as error:
        raise _unreadable(f"{type(error).__name__}: {error}") from error


def _unreadable(reason: str) -> _NoMeteorError:
    return _NoMeteorError(f"it failed with nltk's wordnet ({reason}); to fetch that again: {_FETCH}")


def _ask_child(question: str, seed: int) -> list[float]:
    """The scores that a fresh interpreter gives, which imports nothing from the present folder (-P)."""
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", __name__],
            input=question,
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONHASHSEED": str(seed)},
        )
    except OSError as error:
        raise _NoMeteorError(f"no child interpreter could be started: {error}") from error
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        raise _unreadable(lines[-1] if lines else f"exit status {done.returncode}")
    try:
        return [float(score) for score in json.loads(done.stdout)]
    except ValueError as error:
        raise _NoMeteorError(f"the child interpreter printed more than its scores: {done.stdout[:80]!r}") from error


def _score(prediction: str, reference: str) -> float:
    from nltk.translate.meteor_score import single_meteor_score

    wanted, said = (text.replace("\n", " ").split() for text in (reference, prediction))
    return float(single_meteor_score(set(wanted), set(said)))


if __name__ == "__main__":
    json.dump([_score(*pair) for pair in json.load(sys.stdin)], sys.stdout)
