"""Downloads what a sweep names into the hub's local cache, at revisions that are resolved to commits first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.filesize import decimal
from rich.table import Table

from hpc_bench.errors import HubError, in_file
from hpc_bench.hub import download, explained, find_cached, literal_patterns, needed_files
from hpc_bench.hub_files import CARD, lacking_parts
from hpc_bench.sweep.disk_space import free_bytes, quota_left
from hpc_bench.sweep.pin import hub_repos
from hpc_bench.sweep.sweep import Sweep
from hpc_bench.values import HubRepo

__all__ = [
    "Download",
    "Space",
    "downloads_table",
    "fetch",
    "find_download",
    "find_downloads",
    "find_space",
    "refuse_too_little",
]


@dataclass(frozen=True)
class Download:
    """What a sweep needs of one repository, at the commit that its revision is now."""

    repo: HubRepo
    commit: str
    files: tuple[str, ...]
    size: int
    """Of all files, in bytes."""
    to_load: int
    """Of the files that are not in the local cache yet, in bytes."""

    @property
    def to_load_shown(self) -> str:
        """What is to be loaded, for people."""
        return decimal(self.to_load) if self.to_load else "all there"


@dataclass(frozen=True)
class Space:
    """Where the downloads go, and what there is room for."""

    folder: Path
    needed: int
    free: int
    quota_left: int | None

    @property
    def summary(self) -> str:
        """On one line."""
        quota = "" if self.quota_left is None else f", {decimal(self.quota_left)} left of the quota"
        return f"{decimal(self.needed)} to download into {self.folder} ({decimal(self.free)} free{quota})"

    @property
    def exceeds_quota(self) -> bool:
        """Quotas of groups and projects are not known here, and administrators may grant more."""
        return self.quota_left is not None and self.needed > self.quota_left


def find_downloads(sweep: Sweep) -> list[Download]:
    """What is to be fetched for a sweep, as the hub says; HubError names what it does not give."""
    with in_file(sweep.file):
        repos = hub_repos(sweep)
    return [find_download(repo) for repo in repos]


def find_download(repo: HubRepo) -> Download:
    """What is to be fetched of a repository, as the hub says; HubError as above."""
    from huggingface_hub import HfApi, hf_hub_download, snapshot_download
    from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]

    kind = repo.kind
    with explained(repo):
        commit = str(HfApi().repo_info(repo.name, repo_type=kind, revision=repo.revision).sha)
        paths = HfApi().list_repo_files(repo.name, repo_type=kind, revision=commit)
        card = Path()
        if kind == "dataset" and CARD in paths:
            card = Path(hf_hub_download(repo.name, CARD, repo_type=kind, revision=commit))
        files = needed_files(repo, paths, card.parent)
        if kind == "model" and (lacking := lacking_parts(files)):
            raise HubError(f"{repo.title} cannot be run: its repository lacks {' and '.join(lacking)}")
        with disable_progress_bars():
            found = snapshot_download(
                repo.name, repo_type=kind, revision=commit, allow_patterns=literal_patterns(files), dry_run=True
            )
    missing = sum(file.file_size or 0 for file in found if file.will_download)
    return Download(repo, commit, tuple(files), sum(file.file_size or 0 for file in found), missing)


def downloads_table(downloads: Sequence[Download]) -> Table:
    """One row a model or data set."""
    table = Table("", "name", "revision", "commit", "size", "to download")
    for item in downloads:
        name = f"{item.repo.name} {item.repo.config}"
        row = (item.repo.kind, name, item.repo.revision, item.commit[:12], decimal(item.size), item.to_load_shown)
        table.add_row(*row)
    return table


def find_space(downloads: Sequence[Download]) -> Space:
    """What there is room for in the hub's local cache."""
    from huggingface_hub import constants

    folder = Path(constants.HF_HUB_CACHE)
    return Space(folder, sum(item.to_load for item in downloads), free_bytes(folder), quota_left(folder))


def refuse_too_little(space: Space) -> None:
    """HubError if the downloads cannot fit."""
    if space.needed > space.free:
        raise HubError(f"{space.summary}: too little free space; make room, or set HF_HOME to another filesystem")


def fetch(item: Download) -> None:
    """Downloads what is missing; only then does the revision's name lead to the new commit in the local cache."""
    from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]

    with explained(item.repo):
        # By commit first: by name, the cache would point to the new commit while its files are still on their way,
        # and an interruption would leave a sweep that ran before without its earlier, complete files.
        download(item.repo, item.commit, item.files)
        with disable_progress_bars():
            folder = download(item.repo, item.repo.revision, item.files)
    if folder.name != item.commit:
        raise HubError(f"{item.repo.title} moved to {folder.name} in the meantime; run this again")
    if lacking := find_cached(item.repo)[1]:
        raise HubError(f"{item.repo.title} is still incomplete: {', '.join(lacking)}; run this again")
