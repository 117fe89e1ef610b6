"""Temporary files are nobody else's, whatever the process ids; an error of link(2) is not somebody who was faster."""

from __future__ import annotations

import errno
import os
import secrets
import subprocess
import sys
from pathlib import Path

import pytest

from hpc_bench.files import create_exclusive, filesystem_now, leave_mark, link_problem, own_opener, write_whole
from tests.support.builders import run_cli, tree, write_sweep
from tests.support.refusals import assert_refused

RACES = 300
RACER = """
import os, socket, sys, time
from pathlib import Path
os.getpid = lambda: 7
socket.gethostname = lambda: "container"
def slowly(call):
    def wrapped(*args, **kwargs):
        time.sleep(0.001)
        return call(*args, **kwargs)
    return wrapped
os.open, os.link, os.unlink = slowly(os.open), slowly(os.link), slowly(os.unlink)
from hpc_bench.files import create_exclusive
folder, me = Path(sys.argv[1]), sys.argv[2]
(folder / f"ready.{me}").touch()
while len(list(folder.glob("ready.*"))) < 2:
    time.sleep(0.001)
print(*[number for number in range(int(sys.argv[3])) if create_exclusive(folder / f"claim{number}", me)])
"""


def test_claim_has_one_winner_among_containers_with_one_host_name_and_pid(tmp_path: Path) -> None:
    command = [sys.executable, "-c", RACER, str(tmp_path)]

    racers = [
        subprocess.Popen([*command, me, str(RACES)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for me in "ab"
    ]

    ends = [racer.communicate(timeout=300) for racer in racers]
    assert [error for _, error in ends] == ["", ""]
    won = sorted(int(number) for output, _ in ends for number in output.split())
    assert won == list(range(RACES))
    assert not list(tmp_path.glob(".tmp-*"))


def test_prepared_link_redirects_no_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even one whose name is guessed right, as could be done when names held host, process and a counter."""
    victim = tmp_path / "victim"
    victim.write_text("precious")
    folder = tmp_path / "shared"
    folder.mkdir()
    monkeypatch.setattr(secrets, "token_hex", lambda _size: "guessed")
    (folder / ".tmp-guessed").symlink_to(victim)

    for write in (write_whole, create_exclusive):
        with pytest.raises(FileExistsError):
            write(folder / "summary.csv", "new")
    filesystem_now(folder)

    assert victim.read_text() == "precious"
    assert not (folder / "summary.csv").exists()


def test_mark_and_log_are_not_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "mark").symlink_to(tmp_path / "victim")

    with pytest.raises(OSError, match="symbolic link"):
        leave_mark(tmp_path / "mark")
    with pytest.raises(OSError, match="symbolic link"):
        open(tmp_path / "mark", "ab", opener=own_opener)  # noqa: SIM115 - it is not opened

    assert not (tmp_path / "victim").exists()


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOSPC, errno.EIO])
def test_link_that_fails_is_not_somebody_who_was_faster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def link(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", link)

    with pytest.raises(OSError) as raised:  # noqa: PT011 - the number is asked below
        create_exclusive(tmp_path / "claim", "me")

    assert raised.value.errno == number
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("no_workers")
def test_filesystem_without_links_is_refused_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_sweep(tmp_path, base_result_dir=str(tmp_path / "deep" / "results"))
    before = tree(tmp_path)

    def link(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)

    assert link_problem(tmp_path) == "hard links are refused (Operation not permitted)"
    said = "hard links are refused (Operation not permitted), so claims cannot work here"
    assert_refused(run_cli("submit", "--gpus", "none", path), "base_result_dir: ", said, "on another filesystem")
    assert tree(tmp_path) == before
