"""A hub on 127.0.0.1 that serves small repositories to the real huggingface_hub client."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from huggingface_hub import constants
from pyarrow import Table, parquet

from tests.support.places import TINY

DATA = "datasets/Xnhyacinth/LongBench"
Files = Mapping[str, bytes]


@dataclass
class FakeHub:
    """Repositories by their path in a URL (`org/model`, `datasets/org/data`): branch -> commit -> files."""

    url: str = ""
    branches: dict[str, dict[str, str]] = field(default_factory=dict)
    commits: dict[str, dict[str, Files]] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    broken: set[str] = field(default_factory=set)
    """Files that are listed, but not handed out."""
    requests: list[str] = field(default_factory=list)

    def push(self, repo: str, files: Files, branch: str = "main") -> str:
        """A new commit on a branch; returns its hash."""
        content = b"".join(name.encode() + b"\0" + data for name, data in sorted(files.items()))
        commit = hashlib.sha1(repo.encode() + content).hexdigest()
        self.branches.setdefault(repo, {})[branch] = commit
        self.commits.setdefault(repo, {})[commit] = dict(files)
        return commit

    def environment(self, hf_home: Path) -> dict[str, str]:
        """What a user sets to work with this hub; nothing is shared with the machine's own cache."""
        return {"HF_ENDPOINT": self.url, "HF_HOME": str(hf_home), "HF_HUB_DISABLE_TELEMETRY": "1", "HF_TOKEN": ""}

    def downloads(self) -> list[str]:
        """The files that were fetched."""
        return [
            line.split("/resolve/")[1].split("/", 1)[1]
            for line in self.requests
            if line.startswith("GET") and "/resolve/" in line
        ]


@contextmanager
def running_hub() -> Iterator[FakeHub]:
    """A hub that answers until the block ends; afterwards connections are refused."""
    hub = FakeHub()
    server = _Server(("127.0.0.1", 0), _Handler)
    server.hub = hub
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def use_hub(monkeypatch: pytest.MonkeyPatch, hub: FakeHub, home: Path) -> None:
    """Has the commands that a test starts, and this process, work with a hub and a cache."""
    for name, value in {**hub.environment(home), "HF_HUB_DISABLE_PROGRESS_BARS": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}")


class _Server(ThreadingHTTPServer):
    hub: FakeHub


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        self.server.hub.requests.append(f"{self.command} {self.path}")
        path = unquote(urlsplit(self.path).path).strip("/")
        if path.startswith("api/"):
            self.answer_api(path.removeprefix("api/").removeprefix("models/"))
        else:
            self.answer_file(path)

    def answer_api(self, path: str) -> None:
        """`<repo>`, `<repo>/revision/<revision>` or `<repo>/tree/<revision>[/<folder>]`."""
        parts = path.split("/")
        size = 3 if parts[0] == "datasets" else 2
        repo, rest = "/".join(parts[:size]), parts[size:]
        revision = rest[1] if len(rest) > 1 else "main"
        if (commit := self.find(repo, revision)) is None:
            return
        files = self.server.hub.commits[repo][commit]
        if rest[:1] == ["tree"]:
            folder = "/".join(rest[2:])
            inside = {name: data for name, data in files.items() if not folder or name.startswith(f"{folder}/")}
            if folder and not inside:
                self.refuse(404, "EntryNotFound")
                return
            self.send(json.dumps([_tree_entry(name, data) for name, data in inside.items()]).encode())
        else:
            siblings = [{"rfilename": name} for name in files]
            self.send(json.dumps({"id": repo, "sha": commit, "siblings": siblings, "tags": []}).encode())

    def answer_file(self, path: str) -> None:
        repo, _, rest = path.partition("/resolve/")
        revision, _, name = rest.partition("/")
        if repo in self.server.hub.gated:
            self.refuse(403, "GatedRepo")
        elif self.command == "GET" and name in self.server.hub.broken:
            self.refuse(403, "Broken")
        elif (commit := self.find(repo, revision)) is not None:
            data = self.server.hub.commits[repo][commit].get(name)
            if data is None:
                self.refuse(404, "EntryNotFound", commit)
            else:
                self.send(data, {"ETag": f'"{_oid(data)}"', "X-Repo-Commit": commit})

    def find(self, repo: str, revision: str) -> str | None:
        """The commit; None after an error was sent."""
        if repo not in self.server.hub.branches:
            self.refuse(401, "RepoNotFound")  # as the hub says to those whom it does not know
        elif revision in self.server.hub.commits[repo]:
            return revision
        elif revision in self.server.hub.branches[repo]:
            return self.server.hub.branches[repo][revision]
        else:
            self.refuse(404, "RevisionNotFound")
        return None

    def refuse(self, status: int, code: str, commit: str = "") -> None:
        self.send(b"", {"X-Error-Code": code, "X-Error-Message": code, "X-Repo-Commit": commit}, status)

    def send(self, body: bytes, headers: Mapping[str, str] = {}, status: int = 200) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


def _oid(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def _tree_entry(name: str, data: bytes) -> dict[str, Any]:
    return {"type": "file", "path": name, "size": len(data), "oid": _oid(data)}


def model_repo() -> dict[str, bytes]:
    """The smallest demo model."""
    folder = TINY
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def longbench_repo(tmp_path: Path, *, rows: int = 2) -> dict[str, bytes]:
    """Two configurations in the schema of LongBench, one of two parquet files and one of JSON lines, and a card."""
    files = {"README.md": _CARD.encode(), "LongBench.py": b"raise SystemExit"}
    for part in range(2):
        path = tmp_path / "part.parquet"
        parquet.write_table(Table.from_pylist([row(f"text {part}.{n}") for n in range(rows)]), path)
        files[f"qasper/test-{part:05}-of-00002.parquet"] = path.read_bytes()
    files["more/musique.jsonl"] = "".join(json.dumps(row(f"story {n}")) + "\n" for n in range(rows)).encode()
    files["qasper/train-00000-of-00001.parquet"] = b"never read"
    return files


def row(context: str) -> dict[str, Any]:
    """A row of LongBench."""
    return {
        "context": context,
        "question": "What is the number?",
        "answer_prefix": "Answer:",
        "answers": ["12"],
        "all_classes": None,
        "length": 2,
        "task": "qasper",
        "max_new_tokens": 8,
    }


_CARD = """---
license: mit
configs:
- config_name: qasper
  data_files:
  - split: train
    path: qasper/train-*
  - split: test
    path: qasper/test-*
- config_name: musique
  data_files:
  - split: test
    path:
    - more/musique.jsonl
---
# A small LongBench
"""
