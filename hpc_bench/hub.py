"""The hub and its local cache: what of a repository is there, at which commit, and fetching the rest of it."""

from __future__ import annotations

import glob
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from hpc_bench.errors import HubError
from hpc_bench.hub_files import CARD, data_files, lacking_parts, model_files
from hpc_bench.values import HubRepo

__all__ = ["download", "explained", "fetch_data", "find_cached", "list_data", "literal_patterns", "needed_files"]


def find_cached(repo: HubRepo) -> tuple[str, list[str]]:
    """The commit that the local cache holds for a revision, and what of it is missing there; asks no hub."""
    from huggingface_hub import errors

    with explained(repo):
        try:
            folder = _cached_folder(repo)
        except errors.LocalEntryNotFoundError:
            return "", ["all of it"]
        try:
            paths = _listed(repo, folder.name)
        except errors.CachedRepoTreeNotFoundError:
            if repo.kind == "dataset":  # nothing else tells a split of two files from half of one
                return folder.name, ["the list of its files"]
            paths = [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]
    return folder.name, _missing(repo, folder, paths)


def _cached_folder(repo: HubRepo) -> Path:
    from huggingface_hub import snapshot_download

    any_files: list[str] = []  # an incomplete snapshot will do, too: what is missing in it is named one by one
    return Path(
        snapshot_download(
            repo.name, repo_type=repo.kind, revision=repo.revision, local_files_only=True, allow_patterns=any_files
        )
    )


def _missing(repo: HubRepo, folder: Path, paths: list[str]) -> list[str]:
    if repo.kind == "dataset":
        if CARD in paths and not (folder / CARD).is_file():
            return [CARD]
        files = needed_files(repo, paths, folder)
    else:
        files = needed_files(repo, paths, folder)
        files += [*lacking_parts(files), *_shards(folder, files)]
    return [file for file in dict.fromkeys(files) if not (folder / file).is_file()]


def _shards(folder: Path, files: Iterable[str]) -> list[str]:
    """The weight files that an index counts up."""
    for file in files:
        if file.endswith(".index.json") and (folder / file).is_file():
            try:
                return sorted(set(json.loads((folder / file).read_text(encoding="utf-8"))["weight_map"].values()))
            except (ValueError, LookupError, AttributeError, TypeError) as error:
                raise HubError(f"{folder / file} is corrupt ({error}); delete it and prefetch again") from error
    return []


def needed_files(repo: HubRepo, paths: Iterable[str], folder: Path) -> list[str]:
    """Those of a repository's files that a run reads; `folder` holds the card of a data set, if it has one."""
    paths = list(paths)
    if odd := next((path for path in paths if not path.isprintable()), ""):  # bars of the hub's library would show it
        raise HubError(f"{repo.title} has a file with invisible characters in its name, {odd!r}; use another revision")
    if repo.kind == "model":
        return model_files(paths)
    files = data_files(paths, _card(folder / CARD), repo.config, repo.split)
    if not files:
        raise HubError(f"{repo.title} has no {repo.split} split of that configuration; check the name and the revision")
    return files


def _card(path: Path) -> Mapping[str, Any]:
    from huggingface_hub import metadata_load

    try:
        return (metadata_load(path) or {}) if path.is_file() else {}
    except (ValueError, yaml.YAMLError) as error:
        raise HubError(f"{path} is no data set card: {str(error).splitlines()[0]}") from error


def list_data(repo: HubRepo) -> tuple[Path, list[str]]:
    """The snapshot of a data set in the local cache, its card in it, and the names of all its files."""
    from huggingface_hub import HfApi, errors

    with explained(repo):
        folder = download(repo, repo.revision, [CARD])
        try:
            return folder, _listed(repo, folder.name)
        except errors.CachedRepoTreeNotFoundError:  # it could not be written
            return folder, HfApi().list_repo_files(repo.name, repo_type=repo.kind, revision=folder.name)


def fetch_data(repo: HubRepo, folder: Path, paths: Iterable[str]) -> list[Path]:
    """The files of a data set's split, in the local cache; downloaded first where the hub can be reached.

    What is in the cache already is neither locked nor written: it may lie on a filesystem that can do neither.
    """
    with explained(repo):
        files = needed_files(repo, paths, folder)
        download(repo, folder.name, files)
    return [folder / file for file in files]


def download(repo: HubRepo, revision: str, files: Iterable[str]) -> Path:
    """The folder of a revision's snapshot, in which these files are now; its name is the commit."""
    from huggingface_hub import snapshot_download

    exactly = literal_patterns(files)
    return Path(snapshot_download(repo.name, repo_type=repo.kind, revision=revision, allow_patterns=exactly))


def literal_patterns(files: Iterable[str]) -> list[str]:
    """Patterns that match these files and no others."""
    return [glob.escape(file) for file in files]


def _listed(repo: HubRepo, commit: str) -> list[str]:
    from huggingface_hub import get_cached_repo_tree

    return [file.path for file in get_cached_repo_tree(repo.name, repo_type=repo.kind, revision=commit)]


@contextmanager
def explained(repo: HubRepo) -> Iterator[None]:
    """Turns whatever the hub's client raises into a HubError that names the repository and the remedy."""
    from huggingface_hub import constants, errors

    hub = constants.ENDPOINT
    try:
        yield
    except errors.GatedRepoError as error:
        raise HubError(
            f"{repo.title} is gated: accept its terms on {hub}/{repo.name}, and log in with the HF_TOKEN variable"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise HubError(
            f"{repo.title} is not on {hub}: check the spelling, or log in with the HF_TOKEN variable if it is private"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise HubError(f"{repo.title}: there is no such revision; name a branch, a tag or a commit") from error
    except errors.HFValidationError as error:
        raise HubError(f"{repo.title} cannot be on a hub: {str(error).splitlines()[0]}") from error
    except _unreachable() as error:
        cause = error.__cause__ or error
        reason = (str(cause).strip() or type(cause).__name__).splitlines()[0]
        raise HubError(
            f"{repo.title} cannot be fetched from {hub}: {reason}; "
            "run `hpc-bench prefetch` on a machine with internet (HF_HUB_OFFLINE unset)"
        ) from error
    except OSError as error:
        raise HubError(f"{repo.title} cannot be kept in {constants.HF_HUB_CACHE}: {error}; set HF_HOME") from error


def _unreachable() -> tuple[type[Exception], ...]:
    from huggingface_hub import errors

    client: type[Exception] = errors.HTTPError  # type: ignore[attr-defined] # of the library it is built on at present
    return (client, errors.OfflineModeIsEnabled, errors.LocalEntryNotFoundError, errors.DryRunError)
