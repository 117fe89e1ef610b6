"""The `slurm:` section of a sweep, alone or on top of a profile."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hpc_bench.errors import SweepError, in_file, unknown_name, within
from hpc_bench.execution.credentials import refuse_secrets
from hpc_bench.options import from_mapping
from hpc_bench.places import find_path
from hpc_bench.sweep.reading import read_yaml
from hpc_bench.sweep.sections import seconds_of

__all__ = ["SlurmSection", "parse_slurm_section"]

_SLURM_TIME = re.compile(
    r"(?P<days>\d+)-(?P<day_h>\d+)(?::(?P<day_m>\d+)(?::(?P<day_s>\d+))?)?"
    r"|(?:(?P<h>\d+):)?(?P<m>\d+):(?P<s>\d+)"
    r"|(?P<minutes>\d+)"
)
_MEMORY = re.compile(r"\d+([KMGT]B?)?")
_OURS = (
    *("array", "chdir", "dependency", "error", "export", "help", "job-name", "nodes", "ntasks"),
    *("ntasks-per-node", "open-mode", "output", "parsable", "quiet", "signal", "test-only", "time", "usage"),
    *("version", "wait", "wrap"),
)
"""sbatch options that the way workers are started and followed depends on."""


@dataclass(frozen=True)
class SlurmSection:
    """What is asked of Slurm for a worker; text goes to the sbatch option of the same name."""

    profile: str | None = None
    """A name or a path: a YAML file of these same keys, which the sweep's own win over."""
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    time: str | int = "4h"
    """Walltime of one incarnation, which is requeued while work is left: 4h, 90m, or as Slurm writes it."""
    gpus_per_node: int | None = None
    """None: as many as the model needs (its `gpus`)."""
    gpu_type: str | None = None
    cpus_per_task: int | None = None
    mem: str | int | None = None
    """Such as 64G; a bare number is MB, as in Slurm."""
    constraint: str | None = None
    exclude: str | None = None
    nodelist: str | None = None
    reservation: str | None = None
    clusters: str | None = None
    """The cluster of several to submit to."""
    mail_type: str | None = None
    mail_user: str | None = None
    nice: int | None = None
    signal_delay: str = "90s"
    """How long before the walltime workers are told to save and release their work."""
    setup: tuple[str, ...] = ()
    """Shell commands before the worker starts, each whole in itself; one that fails ends the job, and the job's log
    says which."""
    python: str | None = None
    """A command in place of this Python: of another environment, or `apptainer exec --nv image.sif python3`."""
    max_array_size: int | None = None
    """None: the cluster's MaxArraySize."""
    additional_parameters: dict[str, bool | int | str] = field(default_factory=dict)
    """Other sbatch options, such as {exclusive: true, comment: x}."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            for text in value if isinstance(value, tuple) else (value,):
                if isinstance(text, str) and name != "setup" and (not text.strip() or not text.isprintable()):
                    raise ValueError(f"{name} must be text on one line")
        for name, least in (("gpus_per_node", 0), ("cpus_per_task", 1), ("max_array_size", 1)):
            if getattr(self, name) is not None and getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}")
        if self.mem is not None and not _MEMORY.fullmatch(str(self.mem)):
            raise ValueError(f"mem: {self.mem!r} is no amount of memory; write it as 64G or 64000M")
        for command in self.setup:
            if not command.strip() or command.rstrip(" ").endswith("\\"):
                raise ValueError(f"setup: {command!r} is no whole command")
        if self.time_min * 60 <= self.signal_delay_s:
            raise ValueError(f"signal_delay ({self.signal_delay}) must be shorter than time ({self.time})")
        _check_additional(self.additional_parameters)

    @property
    def time_min(self) -> int:
        """The walltime in whole minutes, as Slurm counts it."""
        return -(-round(_seconds(self.time)) // 60)

    @property
    def signal_delay_s(self) -> int:
        """Seconds."""
        try:
            return round(seconds_of(self.signal_delay))
        except ValueError as error:
            raise ValueError(f"signal_delay: {error}") from error


def _seconds(time: str | int) -> float:
    """Of our durations (90m) and Slurm's (90, 90:00, 4:00:00, 1-0, 1-12:00, 1-12:00:00; a bare number is minutes)."""
    match = _SLURM_TIME.fullmatch(str(time).strip())
    if match:
        part = {name: int(text or 0) for name, text in match.groupdict().items()}
        minutes = part["minutes"] + part["m"] + part["day_m"]
        hours = 24 * part["days"] + part["day_h"] + part["h"]
        total = hours * 3600 + minutes * 60 + part["s"] + part["day_s"]
    else:
        try:
            total = round(seconds_of(str(time)))
        except ValueError:
            total = 0
    if not 0 < total <= 366 * 86400:
        raise ValueError(f"time: {time!r} is no walltime of up to a year; write it as 4h, 90m, 4:00:00 or 1-12:00:00")
    return total


def _check_additional(parameters: Mapping[str, bool | int | str]) -> None:
    fields = SlurmSection.__dataclass_fields__
    for name, value in parameters.items():
        where = f"additional_parameters: {name!r}"
        if not re.fullmatch(r"[a-z][a-z0-9_-]*", name):
            raise ValueError(f"{where} is no sbatch option; write it without dashes in front, such as exclusive")
        if name.replace("_", "-") in _OURS:
            raise ValueError(f"{where} is set by hpc-bench and cannot be changed")
        if name.replace("-", "_") in fields:
            raise ValueError(f"{where} is a key of the slurm section; set it there")
        if value is False or (isinstance(value, str) and not value.isprintable()):
            raise ValueError(f"{where}: {value!r} must be true, a number, or text on one line")


def parse_slurm_section(data: Mapping[str, Any], folder: Path) -> SlurmSection:
    """The section with its profile's keys below its own; `folder` is the sweep's. SweepError as for every section."""
    name = data.get("profile")
    if name is None:
        return from_mapping(SlurmSection, data, "key")  # type: ignore[no-any-return]
    if not isinstance(name, str) or not name.strip():
        raise SweepError("must be the name of a profile, or the path of its file", "profile")
    path = _find_profile(name, folder)
    below = _read_profile(path)
    merged = {**below, **data}
    others = "additional_parameters"
    if isinstance(below.get(others), dict) and isinstance(data.get(others), dict):
        merged[others] = {**below[others], **data[others]}
    return from_mapping(SlurmSection, merged, "key")  # type: ignore[no-any-return]


def _read_profile(path: Path) -> dict[str, Any]:
    """Its keys, checked; SweepError names the file beside the sweep's."""
    try:
        with in_file(str(path)):
            settings = read_yaml(path)
            refuse_secrets(settings)
            if "profile" in settings:
                raise SweepError("names a profile itself; a profile holds settings alone")
            from_mapping(SlurmSection, settings, "key")
    except SweepError as error:
        raise SweepError(str(error), "profile") from error
    return settings


def _find_profile(name: str, folder: Path) -> Path:
    if "/" in name or name.endswith((".yaml", ".yml")):
        with within("profile"):
            path = find_path(name, folder)
            if not path.is_file():
                raise SweepError(f"{path} does not exist; name a profile's file, or a profile by its name alone")
        return path
    folders = list(_profile_folders(folder))
    for place in folders:
        if (place / f"{name}.yaml").is_file():
            return place / f"{name}.yaml"
    known = sorted({path.stem for place in folders if place.is_dir() for path in place.glob("*.yaml")})
    looked = ", ".join(str(place) for place in folders)
    hint = unknown_name("profile", name, known) if known else f"there is no profile {name!r}"
    raise SweepError(f"{hint}; looked in {looked}", "profile")


def _profile_folders(folder: Path) -> Iterator[Path]:
    """Beside the sweep, in the present folder, in the user's configuration."""
    yield from dict.fromkeys((folder / "slurm" / "profiles", Path("slurm") / "profiles"))
    yield Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "hpc-bench" / "profiles"
