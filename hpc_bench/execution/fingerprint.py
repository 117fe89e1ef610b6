"""A stub's fingerprint: the digest of everything that can change its answers."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Mapping
from types import MappingProxyType

from hpc_bench.execution.header import FORMAT_VERSION, Header
from hpc_bench.execution.stub import Stub, make_stub
from hpc_bench.files import to_json
from hpc_bench.values import PROMPT_CLOCK, Json, plain_options

__all__ = ["FingerprintMaker", "asks_for", "identity_of", "would_differ"]

_CHANGES_NOTHING = ("keep_context", "max_samples", "sample_order")
"""Keys of `request` that cannot change an answer. A result says itself which samples were asked (`Facts.asked`)."""
_ALONE: Mapping[str, Json] = MappingProxyType({"rows": 1})
"""The shape of answering: one answer at a time."""
_Parts = Mapping[str, Json]


def identity_of(header: Header, stub: Stub) -> dict[str, Json]:
    """What the stub's fingerprint is the digest of."""
    return {
        **_shared_parts(header),
        **_model_parts(header, stub.model),
        **_attention_parts(header, stub.attention),
        **_benchmark_parts(header, stub.benchmark, stub.subset),
    }


def _shared_parts(header: Header) -> _Parts:
    return {"answering": dict(_ALONE), "format": FORMAT_VERSION, "generation": plain_options(header.generation)}


def _model_parts(header: Header, model: str) -> _Parts:
    spec = header.models[model]
    adapter: Json = {
        "adapter": spec.adapter,
        "version": spec.adapter_version,
        **({"plugin_code": spec.adapter_code} if spec.adapter_code else {}),
        "model_kwargs": dict(spec.model_kwargs),
        "tokenizer_kwargs": dict(spec.tokenizer_kwargs),
        "trust_remote_code": spec.trust_remote_code,
    }
    return {"adapter": adapter, "model": spec.identity}


def _attention_parts(header: Header, attention: str) -> _Parts:
    return {"attention": header.attentions[attention].identity}


def _benchmark_parts(header: Header, benchmark: str, subset: str | None) -> _Parts:
    spec = header.benchmarks[benchmark]
    code: dict[str, Json] = {"plugin_code": spec.code} if spec.code else {}
    return {
        "benchmark": {"name": benchmark, **spec.identities[subset or ""], **code},
        "request": _request_part(header, benchmark),
        "subset": subset,
    }


def _request_part(header: Header, benchmark: str) -> dict[str, Json]:
    """With the day that prompts are told, the place of the answer prefix, and the way in which prompts are cut, where
    they are, also where the sweep leaves them to the benchmark.
    """
    request = {key: value for key, value in plain_options(header.request).items() if key not in _CHANGES_NOTHING}
    request |= {"answer_prefix": header.prompt_form(benchmark).answer_prefix, "clock": PROMPT_CLOCK}
    own = header.benchmarks[benchmark].truncation
    if request["max_context_length"] is None or own is None:
        return request
    return {"truncation": own, **request}


class FingerprintMaker:
    """Makes the stubs of a header; each part of their identities becomes canonical JSON once, not once a stub."""

    def __init__(self, header: Header) -> None:
        self._header = header
        self._written: dict[Hashable, dict[str, str]] = {}

    def stub(self, model: str, attention: str, benchmark: str, subset: str | None) -> Stub:
        """The stub of one combination; KeyError if the header lacks one of the names."""
        header = self._header
        texts = {
            **self._once("shared", lambda: _shared_parts(header)),
            **self._once(("model", model), lambda: _model_parts(header, model)),
            **self._once(("attention", attention), lambda: _attention_parts(header, attention)),
            **self._once((benchmark, subset or ""), lambda: _benchmark_parts(header, benchmark, subset)),
        }
        # The text that to_json makes of the whole identity, put together from parts for the sake of 100,000 stubs.
        identity = ",".join(f'"{name}":{texts[name]}' for name in sorted(texts))
        fingerprint = hashlib.sha256(f"{{{identity}}}".encode()).hexdigest()
        return make_stub(model, attention, benchmark, subset, fingerprint)

    def _once(self, key: Hashable, parts: Callable[[], _Parts]) -> dict[str, str]:
        if key not in self._written:
            self._written[key] = {name: to_json(part) for name, part in parts().items()}
        return self._written[key]


def asks_for(header: Header, stub: Stub) -> bool:
    """Whether `header` has the stub's place, and asks for this very stub there."""
    return _in_place_of(header, stub) == stub


def would_differ(header: Header, stub: Stub) -> bool:
    """Whether `header` has the stub's place, but asks for something else there; False if it has no such place."""
    return _in_place_of(header, stub) not in (stub, None)


def _in_place_of(header: Header, stub: Stub) -> Stub | None:
    try:
        return FingerprintMaker(header).stub(stub.model, stub.attention, stub.benchmark, stub.subset)
    except KeyError:
        return None
