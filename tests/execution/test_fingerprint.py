"""A fingerprint is the digest of a stub's whole identity, and is put together from parts that are written once."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

import pytest

from hpc_bench.execution import fingerprint
from hpc_bench.execution.fingerprint import FingerprintMaker, identity_of, would_differ
from hpc_bench.execution.manifest import read_manifest
from hpc_bench.files import to_json
from tests.support.builders import prepare


def test_fingerprint_is_the_digest_of_the_canonical_identity(tmp_path: Path) -> None:
    manifest = read_manifest(prepare(tmp_path, request_kwargs={"max_context_length": 100}))

    for stub in manifest.stubs:
        identity = to_json(identity_of(manifest.header, stub))
        assert stub.fingerprint == hashlib.sha256(identity.encode()).hexdigest()
        assert not would_differ(manifest.header, stub)


def test_each_part_is_written_once_however_many_stubs_share_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = read_manifest(prepare(tmp_path))
    written: Counter[str] = Counter()

    def count_and_write(value: object) -> str:
        text = to_json(value)
        written[text] += 1
        return text

    monkeypatch.setattr(fingerprint, "to_json", count_and_write)
    make = FingerprintMaker(manifest.header)
    stubs = [make.stub(s.model, s.attention, s.benchmark, s.subset) for s in manifest.stubs]

    assert stubs == list(manifest.stubs)
    # 3 parts for all, 2 a model, 1 an attention config, 3 for each of 3 subsets: not 9 a stub
    assert written.total() == 3 + 2 * 2 + 2 + 3 * 3
