"""The manifest: the stubs of an execution, and everything a worker needs to know about them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import NoneType
from typing import Any

from hpc_bench import catalog
from hpc_bench.attention.base import AttentionConfig
from hpc_bench.benchmarks.base import Benchmark
from hpc_bench.errors import DatasetError, ExecutionError, HpcBenchError
from hpc_bench.execution_dir import ExecutionDir, sanitize
from hpc_bench.files import to_json, write_whole
from hpc_bench.records import Generation, Json
from hpc_bench.sections import Request

__all__ = [
    "FORMAT_VERSION",
    "Header",
    "Manifest",
    "Stub",
    "manifest_version",
    "read_header",
    "read_manifest",
    "would_differ",
    "write_manifest",
]

FORMAT_VERSION = 1
_CHANGES_NOTHING = ("keep_context",)
"""Keys of `request` that cannot change an answer."""


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


@dataclass(frozen=True)
class Header:
    """What the stubs of a manifest share; each model, config and benchmark stands here once."""

    name: str
    created: str
    models: Mapping[str, dict[str, Any]]
    """title -> {name, source, revision, gpus, adapter, device, *_kwargs, trust_remote_code, identity}"""
    attentions: Mapping[str, dict[str, Any]]
    """name -> {maskers: [[masker, {parameter: value}], ...] with all defaults spelled out, sparse_prefill,
    measure_error, identity}"""
    benchmarks: Mapping[str, dict[str, Any]]
    """name -> {kind: its name in the catalog, options, identities: {subset or "": identity}, sizes: {subset or "":
    estimate}}"""
    generation: dict[str, Any]
    """Both without the later keys (`records.LATER`) that have their default; `decoding` and `asking` fill them in."""
    request: dict[str, Any]
    limits: dict[str, Any]
    max_concurrent_runs: int | None
    provenance: dict[str, Json]
    forgiven: Mapping[str, int] = field(default_factory=dict)
    """stub key -> attempts that do not count towards max_attempts any more (--retry-failed)"""
    measured: Mapping[str, float] = field(default_factory=dict)
    """"model/benchmark/subset" -> mean seconds of the stubs of that bundle that are complete"""
    offline: bool = False
    """Engines must not ask a hub."""
    baseline: str = ""
    """The attention config that results are compared with; empty: the sweep names none."""
    format_version: int = FORMAT_VERSION

    def identity_parts(self, model: str, attention: str, benchmark: str, subset: str | None) -> dict[str, str]:
        """The parts of a stub's identity, each as canonical JSON."""
        entry = self.models[model]
        keys = ("adapter", "model_kwargs", "tokenizer_kwargs", "trust_remote_code")
        return {
            "adapter": to_json({key: entry[key] for key in keys}),
            "attention": to_json(self.attentions[attention]["identity"]),
            "benchmark": to_json({"name": benchmark, **self.benchmarks[benchmark]["identities"][subset or ""]}),
            "format": str(FORMAT_VERSION),
            "generation": to_json(self.generation),
            "model": to_json(entry["identity"]),
            "request": to_json({key: value for key, value in self.request.items() if key not in _CHANGES_NOTHING}),
            "subset": to_json(subset),
        }

    def identity(self, stub: Stub) -> dict[str, Json]:
        """What the stub's fingerprint is the digest of."""
        parts = self.identity_parts(stub.model, stub.attention, stub.benchmark, stub.subset)
        return {key: json.loads(text) for key, text in parts.items()}

    def attention(self, name: str) -> AttentionConfig:
        """A sparse attention config."""
        entry = self.attentions[name]
        maskers = tuple(catalog.build("masker", masker, options) for masker, options in entry["maskers"])
        return AttentionConfig(maskers, entry["sparse_prefill"], entry["measure_error"])

    def measure_error(self, name: str) -> float:
        """In which share of the passes a config's error is measured."""
        return float(self.attentions[name]["measure_error"])

    def refuse_changed_files(self, name: str) -> None:
        """ExecutionError if a file that a config's maskers name is not the one that was planned with."""
        entry = self.attentions[name]
        planned = entry["identity"]["maskers"] if entry["sparse_prefill"] else entry["identity"]
        for masker, (kind, identity) in zip(self.attention(name).chain, planned, strict=True):
            if masker.files and to_json(masker.identity()) != to_json(identity):
                raise ExecutionError(
                    f"a file of {name}'s {kind} has changed since the sweep was planned; submit it again"
                )

    def refuse_changed_data(self, name: str, subset: str | None) -> None:
        """DatasetError if a subset's data is not what was planned with: its results would not be what they say."""
        planned = self.benchmarks[name]["identities"][subset or ""]
        if to_json(self.benchmark(name).identity(subset)) != to_json(planned):
            raise DatasetError(
                f"the data of {name} {subset or ''} has changed since the sweep was planned; submit it again"
            )

    def benchmark(self, name: str) -> Benchmark:
        """The benchmark with its options."""
        entry = self.benchmarks[name]
        kind = entry.get("kind", name)  # earlier manifests knew of no other name
        return catalog.build("benchmark", kind, entry["options"])  # type: ignore[no-any-return]

    def decoding(self) -> Generation:
        """How answers are decoded."""
        return catalog.from_mapping(Generation, self.generation, "key")  # type: ignore[no-any-return]

    def asking(self) -> Request:
        """How much of a benchmark is asked."""
        return catalog.from_mapping(Request, self.request, "key")  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Manifest:
    """The header and the stubs, in the order of the sweep."""

    header: Header
    stubs: tuple[Stub, ...]


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


def manifest_version(execution: ExecutionDir) -> tuple[int, int]:
    """Changes whenever the manifest is replaced."""
    status = execution.manifest.stat()
    return status.st_ino, status.st_mtime_ns


def make_stub(model: str, attention: str, benchmark: str, subset: str | None, fingerprint: str) -> Stub:
    """A stub with its place and key worked out."""
    leaf = benchmark if subset is None else f"{benchmark}_{subset}"
    path = f"{sanitize(model)}/{sanitize(attention)}/{sanitize(leaf)}"
    key = hashlib.sha256(f"{path}\n{fingerprint}".encode()).hexdigest()[:20]
    return Stub(model, attention, benchmark, subset, fingerprint, path, key)


def write_manifest(execution: ExecutionDir, manifest: Manifest) -> None:
    """Replaces an execution's manifest; the earlier one stays as `manifest.<k>.jsonl`."""
    header = manifest.header
    models, attentions, benchmarks = (
        {name: index for index, name in enumerate(names)}
        for names in (header.models, header.attentions, header.benchmarks)
    )
    # Not in canonical form: the order of the names is the sweep's, and the lines below count in it.
    lines = [json.dumps({**dataclasses.asdict(header), "stubs": len(manifest.stubs)}, allow_nan=False)]
    lines += [
        json.dumps([models[s.model], attentions[s.attention], benchmarks[s.benchmark], s.subset, s.fingerprint])
        for s in manifest.stubs
    ]
    kept = _keep_earlier(execution)
    try:
        write_whole(execution.manifest, "\n".join(lines) + "\n")
    except OSError:
        if kept:
            kept.unlink(missing_ok=True)
        raise


def _keep_earlier(execution: ExecutionDir) -> Path | None:
    if not execution.manifest.exists():
        return None
    number = 1
    while execution.earlier_manifest(number).exists():
        number += 1
    write_whole(execution.earlier_manifest(number), execution.manifest.read_text(encoding="utf-8"))
    return execution.earlier_manifest(number)


def read_header(execution: ExecutionDir) -> Header:
    """The first line of the manifest alone."""
    with _explained(execution), execution.manifest.open(encoding="utf-8") as file:
        return _parse_header(execution, file.readline())[0]


def read_manifest(execution: ExecutionDir) -> Manifest:
    """The whole manifest; ExecutionError names the file and what is wrong with it."""
    with _explained(execution), execution.manifest.open(encoding="utf-8") as file:
        header, count = _parse_header(execution, file.readline())
        models, attentions, benchmarks = list(header.models), list(header.attentions), list(header.benchmarks)
        stubs = []
        for line in file:
            model, attention, benchmark, subset, fingerprint = json.loads(line)
            if not isinstance(subset, (str, NoneType)) or not isinstance(fingerprint, str):
                raise ValueError(f"no stub: {line.strip()}")
            if min(model, attention, benchmark) < 0:
                raise ValueError(f"no stub: {line.strip()}")
            stubs.append(make_stub(models[model], attentions[attention], benchmarks[benchmark], subset, fingerprint))
        if len(stubs) != count:
            raise ValueError(f"{len(stubs)} stubs where the header counts {count}")
    return Manifest(header, tuple(stubs))


def _parse_header(execution: ExecutionDir, line: str) -> tuple[Header, int]:
    """The header and the number of stubs below it."""
    data = json.loads(line)
    version = int(data["format_version"])
    if version > FORMAT_VERSION:
        raise ExecutionError(
            f"{execution.manifest}: format version {version} is newer than this program's {FORMAT_VERSION}; "
            "update hpc-bench to read it"
        )
    count = int(data.pop("stubs"))
    data["attentions"] = {name: _attention_entry(entry) for name, entry in data["attentions"].items()}
    header = Header(**data)
    # What every reader relies on: a header of another shape is corrupt, and said to be so here.
    float(header.limits["lease_s"]), int(header.limits["max_attempts"])
    for part in (header.models, header.attentions, header.benchmarks, header.forgiven, header.measured):
        part.items()
    return header, count


def _attention_entry(entry: Any) -> dict[str, Any]:
    """An entry of `attentions`; earlier manifests held the bare maskers."""
    if isinstance(entry, dict):
        return entry
    return {"maskers": entry, "sparse_prefill": False, "measure_error": 0.0, "identity": entry}


@contextmanager
def _explained(execution: ExecutionDir) -> Iterator[None]:
    try:
        yield
    except HpcBenchError:
        raise
    except OSError as error:
        raise ExecutionError(f"{execution.manifest}: cannot be read: {error.strerror}") from error
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise ExecutionError(
            f"{execution.manifest}: is corrupt ({error}); put back the newest manifest.<k>.jsonl beside it, "
            "or submit with --new"
        ) from error
