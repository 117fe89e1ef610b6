"""The results folder fails for a while, in every process at once, as when a file server restarts: nothing is lost."""

from __future__ import annotations

import errno
import time
from pathlib import Path

import pytest

from tests.support.running import (
    PATIENCE_S,
    assert_each_stub_once,
    execution_of,
    outcomes,
    start_submit,
    wait_until,
    write_scripted_sweep,
)

STUBS, SAMPLES = 4, 8
FAILING_S = 3.0
SITE = """
import functools, os
flag, folder = os.environ["FAILING"], os.environ["FAILING_FOLDER"]

def failing(call):
    @functools.wraps(call)
    def wrapped(path=".", *args, **kwargs):
        if str(path).startswith(folder) and real_access(flag, os.F_OK):
            number = int(open(flag).read())
            raise OSError(number, os.strerror(number), str(path))
        return call(path, *args, **kwargs)
    return wrapped

real_access = os.access
for name in ("open", "scandir", "listdir", "stat", "lstat", "link", "replace", "rename", "unlink", "mkdir", "utime"):
    setattr(os, name, failing(getattr(os, name)))
"""


@pytest.mark.parametrize("number", [errno.ESTALE, errno.EIO, errno.ENOSPC])
def test_errors_of_three_seconds_end_no_worker_and_charge_no_stub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(SITE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    monkeypatch.setenv("FAILING", str(tmp_path / "failing"))
    monkeypatch.setenv("FAILING_FOLDER", str(tmp_path / "results"))
    sweep = write_scripted_sweep(tmp_path, script={"seconds": 0.1}, limits={"max_attempts": 1}, max_concurrent_runs=1)
    going = start_submit(sweep)
    wait_until(lambda: list((tmp_path / "results").glob("*/.state/attempts/*/samples.jsonl")))

    (tmp_path / "new").write_text(str(number))
    (tmp_path / "new").rename(tmp_path / "failing")
    time.sleep(FAILING_S)
    (tmp_path / "failing").unlink()
    said, _ = going.communicate(timeout=PATIENCE_S)

    assert going.returncode == 0, said
    assert "Traceback" not in said
    assert [end for end in outcomes(sweep) if end["state"] == "failed"] == []
    assert len(list(execution_of(sweep).workers.glob("*.json"))) == 1
    assert_each_stub_once(sweep, stubs=STUBS, samples=SAMPLES)
