"""A model that answers from a script, without torch: for trying sweeps, backends and plug-ins, and for tests.

`model_kwargs` is the script: what it answers, how long it takes, and where it fails on purpose.
"""

from __future__ import annotations

import dataclasses
import errno
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hpc_bench.adapters.base import AdapterError, DeviceError, ModelAdapter, Prefill, kept_tokens
from hpc_bench.attention.base import AttentionConfig
from hpc_bench.errors import SweepError
from hpc_bench.options import from_mapping
from hpc_bench.values import Answer, Generation, Json, ModelOptions, Sample, Truncation

__all__ = ["Fault", "Script", "ScriptedAdapter"]


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong at one sample; full is a full disk, fork a kill that leaves a child behind, wait a
    pause.
    """

    kind: Literal["raise", "oom", "full", "hang", "segfault", "kill", "fork", "device", "wait"]
    sample: str | None = None
    """The sample id; None: at every sample."""
    maskers: int | None = None
    """Only under attention configs of that many maskers; None: under all."""
    once: str | None = None
    """A file that the fault creates; where it exists, the fault does not happen again."""
    until: str | None = None
    """The file whose appearance ends a wait."""

    def __post_init__(self) -> None:
        if (self.kind == "wait") != (self.until is not None):
            raise ValueError("a fault of kind wait, and no other, needs until, the file that ends it")


@dataclass(frozen=True)
class Script:
    """What a scripted model does."""

    answer: Literal["right", "wrong", "half"] = "right"
    """half: every second sample is answered right."""
    seconds: float = 0.0
    """Time that each answer takes."""
    load_seconds: float = 0.0
    tokens_per_word: int = 1
    thought: str = ""
    """What it thinks, in think tags, before each answer."""
    load_error: str = ""
    """If given, the model cannot be loaded, for this reason."""
    load_fault: Fault | None = None
    """What happens while it is loaded."""
    faults: tuple[Fault, ...] = ()
    attention_error: str = ""
    """If given, its sparse attention turns out to differ from its own, in these words."""
    broken_node: str = ""
    """The device does not work on the Slurm node of this name."""


class ScriptedAdapter(ModelAdapter):
    """Says on its log what it loads and answers, so that a test can count."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._answers = 0

    @classmethod
    def check_options(cls, options: ModelOptions) -> None:
        """ValueError if the script is not one."""
        try:
            from_mapping(Script, options.model_kwargs, "key of model_kwargs")
        except SweepError as error:
            raise ValueError(f"model_kwargs: {error}") from error

    @classmethod
    def check_device(cls, options: ModelOptions) -> str:
        """Needs none, and finds it broken where the script says so."""
        node = os.environ.get("SLURMD_NODENAME")
        if node and node == options.model_kwargs.get("broken_node"):
            raise DeviceError(f"the device of {node} does not work (the script says so)")
        return "cpu"

    @classmethod
    def load(cls, options: ModelOptions) -> ScriptedAdapter:
        """Reads the script."""
        script: Script = from_mapping(Script, options.model_kwargs, "key of model_kwargs")
        print(f"loading {options.source}", flush=True)  # noqa: T201 - the engine's log
        time.sleep(script.load_seconds)
        if script.load_fault:
            _happen(script.load_fault)
        if script.load_error:
            raise AdapterError(script.load_error)
        return cls(script)

    def count_tokens(self, text: str) -> int:
        """As many a word as the script says."""
        return len(text.split()) * self._script.tokens_per_word

    def cut(self, sample: Sample, limit: int, truncation: Truncation) -> Sample:
        """Cuts between words."""
        words, each = sample.context.split(), max(1, self._script.tokens_per_word)
        behind = len((sample.question + sample.answer_prefix).split())
        front, back = kept_tokens(len(words), behind, limit // each, truncation)
        lost = len(words) - front - back
        if not lost:
            return sample
        return dataclasses.replace(
            sample, context=" ".join(words[:front] + words[front + lost :]), cut_tokens=lost * each
        )

    def prefill(self, samples: Sequence[Sample], attentions: Sequence[AttentionConfig] = ()) -> Prefill:  # noqa: ARG002 - no model
        """Counts the words."""
        return Prefill(None, self.count_tokens(samples[0].context), 0.0)

    def answer(self, prefill: Prefill, sample: Sample, attention: AttentionConfig, generation: Generation) -> Answer:  # noqa: ARG002 - no model
        """The script's answer, or its fault."""
        time.sleep(self._script.seconds)
        for fault in self._script.faults:
            if fault.sample in (None, sample.sample_id) and fault.maskers in (None, len(attention.chain)):
                _happen(fault)
        self._answers += 1
        right = self._script.answer == "right" or (self._script.answer == "half" and self._answers % 2 == 1)
        text = sample.references[0] if right else "no idea"
        print(f"answered {sample.sample_id} under {len(attention.chain)} maskers", flush=True)  # noqa: T201 - the log
        if self._script.thought:
            text = f"<think>{self._script.thought}</think>{text}"
        tokens = self.count_tokens(text)
        return Answer(
            text, self.prompt_tokens(sample), tokens, sample.cut_tokens, self._script.seconds, prefill.seconds, 1.0
        )

    def check_attention_path(self, sample: Sample) -> None:  # noqa: ARG002
        """AdapterError if the script says so."""
        print("checked the attention", flush=True)  # noqa: T201 - the engine's log
        if self._script.attention_error:
            raise AdapterError(self._script.attention_error)

    def breaks_device(self, error: BaseException) -> bool:
        """After the fault of kind device."""
        return isinstance(error, ScriptedDeviceError)

    def provenance(self) -> dict[str, Json]:
        """Says that no model was here."""
        return {"device": "none (scripted)"}

    def peak_memory_gb(self) -> float | None:
        """Not known."""
        return None


class ScriptedDeviceError(Exception):
    """Stands for a CUDA error that ends all computing in a process."""


def _happen(fault: Fault) -> None:
    if fault.once:
        try:
            Path(fault.once).touch(exist_ok=False)
        except FileExistsError:
            return
    if fault.until is not None:
        _wait_for(Path(fault.until))
        return
    if fault.kind == "device":
        raise ScriptedDeviceError("an illegal memory access (the script says so)")
    if fault.kind == "raise":
        raise RuntimeError("the script says so")
    if fault.kind == "full":
        raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)} (the script says so)")
    if fault.kind == "oom":
        import torch

        raise torch.OutOfMemoryError("CUDA out of memory (the script says so)")
    if fault.kind == "hang" or (fault.kind == "fork" and os.fork() == 0):
        time.sleep(1e6)
    os.kill(os.getpid(), signal.SIGSEGV if fault.kind == "segfault" else signal.SIGKILL)


def _wait_for(file: Path) -> None:
    while not file.exists():
        time.sleep(0.05)
