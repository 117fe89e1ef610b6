"""The manifest: the stubs of an execution and their header, on disk."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pydantic

from hpc_bench.errors import ExecutionError, HpcBenchError
from hpc_bench.execution.folder import ExecutionDir
from hpc_bench.execution.header import FORMAT_VERSION, Header, parse_header
from hpc_bench.execution.schema import parse_as
from hpc_bench.execution.stub import Stub, make_stub
from hpc_bench.files import from_json, open_regular, to_json, write_whole

__all__ = ["Manifest", "manifest_version", "read_header", "read_manifest", "write_manifest"]


class _Line(NamedTuple):
    """A stub as it stands in the file: places of names in the header, and what the header does not have."""

    model: pydantic.NonNegativeInt
    attention: pydantic.NonNegativeInt
    benchmark: pydantic.NonNegativeInt
    subset: str | None
    fingerprint: str


@dataclass(frozen=True)
class Manifest:
    """The header and the stubs, in the order of the sweep."""

    header: Header
    stubs: tuple[Stub, ...]


def manifest_version(execution: ExecutionDir) -> tuple[int, int]:
    """Changes whenever the manifest is replaced."""
    status = execution.manifest.stat()
    return status.st_ino, status.st_mtime_ns


def write_manifest(execution: ExecutionDir, manifest: Manifest) -> None:
    """Replaces an execution's manifest; the earlier one stays as `manifest.<k>.jsonl`."""
    header = manifest.header
    models, attentions, benchmarks = (
        {name: index for index, name in enumerate(names)}
        for names in (header.models, header.attentions, header.benchmarks)
    )
    # Not in canonical form: the order of the names is the sweep's, and the lines below count in it.
    lines = [json.dumps({**header.as_json(), "stubs": len(manifest.stubs)}, allow_nan=False)]
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
    with _explained(execution), open_regular(execution.manifest) as file:
        return _parse_header(execution, file.readline())[0]


def read_manifest(execution: ExecutionDir) -> Manifest:
    """The whole manifest; ExecutionError names the file and what is wrong with it."""
    with _explained(execution), open_regular(execution.manifest) as file:
        header, count = _parse_header(execution, file.readline())
        models, attentions, benchmarks = list(header.models), list(header.attentions), list(header.benchmarks)
        stubs = []
        for line in file:
            model, attention, benchmark, subset, fingerprint = parse_as(_Line, line)
            stubs.append(make_stub(models[model], attentions[attention], benchmarks[benchmark], subset, fingerprint))
        if len(stubs) != count:
            raise ValueError(f"{len(stubs)} stubs where the header counts {count}")
    return Manifest(header, tuple(stubs))


def _parse_header(execution: ExecutionDir, line: bytes) -> tuple[Header, int]:
    """The header and the number of stubs below it."""
    data: Any = from_json(line)
    version = parse_as(int, to_json(data["format_version"]))
    if version > FORMAT_VERSION:
        raise ExecutionError(
            f"{execution.manifest}: format version {version} is newer than this program's {FORMAT_VERSION}; "
            "update hpc-bench to read it"
        )
    count = parse_as(int, to_json(data.pop("stubs")))
    return parse_header(data), count


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
