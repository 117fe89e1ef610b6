"""What is a file to be made from, and where does it go? Checked before any model is loaded."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hpc_bench import catalog
from hpc_bench.adapters.model_source import find_model
from hpc_bench.errors import SweepError, within
from hpc_bench.places import pointer_problem

if TYPE_CHECKING:
    from hpc_bench.adapters.base import ModelAdapter
    from hpc_bench.benchmarks.base import Benchmark, Tokens
    from hpc_bench.values import ModelOptions

__all__ = ["FileRequest"]

_SHORTEST = 64
"""Tokens of a text: with fewer keys there is nothing to choose between."""


@dataclass(frozen=True)
class FileRequest:
    """The arguments that both kinds of file take; SweepError for what can be told to be wrong without the model."""

    model: str
    output: Path
    text: Path | None = None
    benchmark: str | None = None
    subset: str | None = None
    context_tokens: int = 2048
    """What the model reads at once: a piece of half that length, twice over (see `load_texts`)."""
    samples: int = 16
    """Most texts that are read; one in four (at least one) is held out, to measure on."""
    device: str = "auto"
    dtype: str = "auto"
    revision: str | None = None
    trust_remote_code: bool = False
    gpus: int = 1

    def __post_init__(self) -> None:
        _check_least("--context-tokens", self.context_tokens, _SHORTEST)
        _check_least("--samples", self.samples, 2)
        _check_least("--gpus", self.gpus, 1)
        if (self.text is None) == (self.benchmark is None):
            raise SweepError("name either --text or --benchmark, to say what the model is to read")
        if self.text is not None and self.subset is not None:
            raise SweepError("--subset goes with --benchmark, not with --text")
        self._check_output()
        find_model(self.model, self.revision)
        if self.text is not None:
            _read_text(self.text)
        else:
            self._benchmark()

    def options(self) -> ModelOptions:
        """How the model is loaded."""
        from hpc_bench.values import ModelOptions

        return ModelOptions(
            source=find_model(self.model, self.revision).source,
            revision=self.revision,
            gpus=self.gpus,
            device=self.device,
            model_kwargs={} if self.dtype == "auto" else {"dtype": self.dtype},
            trust_remote_code=self.trust_remote_code,
        )

    def load_texts(self, adapter: ModelAdapter) -> list[str]:
        """From two to `samples` texts; SweepError if there are fewer.

        Each is a piece of the file, or a context of the benchmark as far as it fits, followed by itself: where a text
        repeats, a model looks far back for single keys, as it does to answer a question, and else seldom does.
        """
        tokens, size = adapter.tokens, self.context_tokens // 2
        if self.text is not None:
            found = _pieces(_read_text(self.text), size, tokens)
            source = f"{self.text} holds fewer than two pieces of {size} tokens"
        else:
            samples = self._benchmark().load(self.subset, tokens)
            contexts = (sample.context for sample in samples if sample.context)
            cut = (context[: _characters(context, size, tokens)] for context in _unique(contexts))
            found = (context for context in cut if tokens(context) >= _SHORTEST // 2)
            source = f"{self.benchmark} has fewer than two contexts of at least {_SHORTEST // 2} tokens"
        texts = [f"{piece}\n{piece}" for piece in itertools.islice(found, self.samples)]
        if len(texts) < 2:
            raise SweepError(f"{source}, but one is needed to learn from and one to measure on")
        return texts

    def _check_output(self) -> None:
        if self.output.suffix != ".safetensors":
            raise SweepError("must end in .safetensors", str(self.output))
        if self.output.exists() or self.output.is_symlink():
            raise SweepError("exists already, and is left as it is; name another file", str(self.output))
        if not self.output.parent.is_dir():
            raise SweepError(f"cannot be written: there is no folder {self.output.parent}", str(self.output))

    def _benchmark(self) -> Benchmark:
        benchmark: Benchmark = catalog.build("benchmark", str(self.benchmark), {})
        if self.subset is not None:
            with within(str(self.benchmark)):
                benchmark.check_subset(self.subset)
        elif benchmark.subsets:
            raise SweepError(f"needs a --subset (valid: {', '.join(benchmark.subsets)})", str(self.benchmark))
        return benchmark


def _check_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise SweepError(f"{name} must be at least {least}")


def _read_text(path: Path) -> str:
    try:
        if problem := pointer_problem(path):
            raise SweepError(problem)
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise SweepError("is not a UTF-8 text", str(path)) from error
    except OSError as error:
        raise SweepError(f"cannot be read: {error.strerror}", str(path)) from error
    if not text.strip():
        raise SweepError("is empty", str(path))
    return text


def _pieces(text: str, size: int, tokens: Tokens) -> Iterator[str]:
    """One after the other, each as much text as `size` tokens hold; the rest at the end is too short."""
    while True:
        end = _characters(text, size, tokens)
        if end == len(text) and tokens(text) < size:
            return
        yield text[:end]
        text = text[end:]


def _characters(text: str, size: int, tokens: Tokens) -> int:
    """How many characters of `text` make up `size` tokens, by bisection; all, if there are no more."""
    beyond = size
    while beyond < len(text) and tokens(text[:beyond]) <= size:
        beyond *= 2
    fits, beyond = 1, min(beyond, len(text)) + 1
    while beyond - fits > 1:
        middle = (fits + beyond) // 2
        fits, beyond = (middle, beyond) if tokens(text[:middle]) <= size else (fits, middle)
    return fits


def _unique(contexts: Iterator[str]) -> Iterator[str]:
    seen = set()
    for context in contexts:
        if context not in seen:
            seen.add(context)
            yield context
