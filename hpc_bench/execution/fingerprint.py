"""A stub's fingerprint: the digest of everything that can change its answers."""

from __future__ import annotations

import hashlib
from typing import Any

from hpc_bench.execution.header import Header
from hpc_bench.execution.stub import Stub, make_stub

__all__ = ["FingerprintMaker", "would_differ"]


class FingerprintMaker:
    """Makes stubs whose fingerprints are hashed from parts that are put into canonical JSON once each."""

    def __init__(self, header: Header) -> None:
        self._header = header
        self._parts: dict[tuple[str, ...], dict[str, str]] = {}

    def stub(self, model: str, attention: str, benchmark: str, subset: str | None) -> Stub:
        """The stub of one combination."""
        fixed = self._cached(("", benchmark, subset or ""), model, attention, benchmark, subset)
        by_model = self._cached((model,), model, attention, benchmark, subset)
        by_attention = self._cached(("", attention), model, attention, benchmark, subset)
        text = (
            f'{{"adapter":{by_model["adapter"]},"attention":{by_attention["attention"]},'
            f'"benchmark":{fixed["benchmark"]},"format":{fixed["format"]},"generation":{fixed["generation"]},'
            f'"model":{by_model["model"]},"request":{fixed["request"]},"subset":{fixed["subset"]}}}'
        )
        return make_stub(model, attention, benchmark, subset, hashlib.sha256(text.encode()).hexdigest())

    def _cached(self, key: tuple[str, ...], *combination: Any) -> dict[str, str]:
        if key not in self._parts:
            self._parts[key] = self._header.identity_parts(*combination)
        return self._parts[key]


def would_differ(header: Header, stub: Stub) -> bool:
    """Whether `header` has the stub's place, but asks for something else there."""
    try:
        return FingerprintMaker(header).stub(stub.model, stub.attention, stub.benchmark, stub.subset) != stub
    except KeyError:
        return False
