"""An attempt's answers, safe on disk as soon as they are given; what earlier attempts answered is taken over."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from hpc_bench.execution.attempts.claims import Claim
from hpc_bench.execution.folder import ExecutionDir
from hpc_bench.execution.results.result import SAMPLES
from hpc_bench.execution.schema import parse_as
from hpc_bench.files import from_json, open_regular, own_opener, write_whole
from hpc_bench.values import Answer

__all__ = ["SamplesFile"]


@dataclass(frozen=True, kw_only=True)
class _Answered(Answer):
    """A line of the file."""

    sample_id: str


_KEYS = tuple(key.name for key in fields(Answer))


class SamplesFile:
    """An attempt's answers, one JSON line each, on disk as soon as they are given."""

    def __init__(self, execution: ExecutionDir, claim: Claim) -> None:
        folder = execution.attempt(claim.stub.key, claim.attempt)
        folder.mkdir(parents=True, exist_ok=True)
        self.answers: dict[str, Answer] = {}
        for number in range(1, claim.attempt + 1):
            earlier = execution.attempt(claim.stub.key, number) / SAMPLES
            self.answers.update(_valid_answers(earlier, claim.stub.fingerprint))
        lines = [json.dumps({"fingerprint": claim.stub.fingerprint}) + "\n"]
        lines += [_line(sample_id, answer) for sample_id, answer in self.answers.items()]
        write_whole(folder / SAMPLES, "".join(lines))
        self._file = open(folder / SAMPLES, "a", encoding="utf-8", opener=own_opener)  # noqa: SIM115 - closed by close()

    def add(self, sample_id: str, answer: Answer) -> None:
        """Appends an answer; in the hands of the operating system when this returns."""
        self.answers[sample_id] = answer
        self._file.write(_line(sample_id, answer))
        self._file.flush()

    def close(self) -> None:
        """Makes all answers survive a power cut."""
        if not self._file.closed:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()


def _line(sample_id: str, answer: Answer) -> str:
    # ASCII escapes keep lone surrogates, which a byte-level tokenizer may produce, through UTF-8.
    return json.dumps({"sample_id": sample_id, **asdict(answer)}, allow_nan=False) + "\n"


def _valid_answers(path: Path, fingerprint: str) -> dict[str, Answer]:
    """The whole lines of an earlier attempt at the same work; a torn or foreign line is dropped."""
    answers: dict[str, Answer] = {}
    try:
        with open_regular(path) as file:
            lines = file.read().split(b"\n")[:-1]
        if not lines or from_json(lines[0]) != {"fingerprint": fingerprint}:
            return {}
    except (OSError, ValueError):
        return {}
    for line in lines[1:]:
        with suppress(ValueError):
            answered = parse_as(_Answered, line)
            answers[answered.sample_id] = Answer(**{key: getattr(answered, key) for key in _KEYS})
    return answers
