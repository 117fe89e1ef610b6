"""A stub: one run of the matrix, where its result goes, and the names of its files."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from hpc_bench.execution.folder import sanitize

__all__ = ["Stub", "make_stub"]


@dataclass(frozen=True, slots=True)
class Stub:
    """One run: model x sparse attention config x benchmark x subset."""

    model: str
    attention: str
    benchmark: str
    subset: str | None
    fingerprint: str
    """sha256 of the stub's identity: everything that can change an answer, and nothing else."""
    result_path: str
    """Relative to the execution folder."""
    key: str
    """Names the stub's files under `.state`: a digest of place and fingerprint."""

    @property
    def title(self) -> str:
        """The stub on one line, as users name it."""
        return f"{self.model}/{self.attention}/{self.benchmark}" + (f"/{self.subset}" if self.subset else "")

    @property
    def bundle(self) -> tuple[str, str, str | None]:
        """Stubs with the same model, benchmark and subset share data and prefill."""
        return (self.model, self.benchmark, self.subset)


def make_stub(model: str, attention: str, benchmark: str, subset: str | None, fingerprint: str) -> Stub:
    """A stub with its place and key worked out."""
    leaf = benchmark if subset is None else f"{benchmark}_{subset}"
    path = f"{sanitize(model)}/{sanitize(attention)}/{sanitize(leaf)}"
    key = hashlib.sha256(f"{path}\n{fingerprint}".encode()).hexdigest()[:20]
    return Stub(model, attention, benchmark, subset, fingerprint, path, key)
