"""What a node is like: measured by `hpc-bench doctor` where it runs, and by its probe from inside a Slurm job.

The probe is `python -m hpc_bench.cli.doctor.probe FOLDER`; its report in the folder is how it answers.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import os
import platform
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from hpc_bench.files import create_exclusive, filesystem_now, to_json, write_whole
from hpc_bench.running.gpus import driver_version, visible_gpus

__all__ = ["HELD", "MISSING", "REPORT", "NodeReport", "clock_ahead_s", "hf_home", "package_versions", "write_latency_s"]

PACKAGES = ("hpc-bench", "torch", "transformers", "datasets", "accelerate", "submitit", "cloudpickle")
MISSING = "missing"
HELD, REPORT = "held", "report.json"
"""In the probe's folder: the file that the login node made, and the probe's answer."""


@dataclass(frozen=True)
class NodeReport:
    """A compute node as seen from inside a job."""

    host: str
    versions: dict[str, str]
    link_refused: bool
    """Whether a name that the login node holds was refused, as it must be."""
    clock_ahead_s: float
    write_s: float
    gpus: list[str]
    gpu_mask: str | None
    """CUDA_VISIBLE_DEVICES; None if it is not set."""
    driver: str | None
    tmpdir: str
    hf_home: str
    hf_home_readable: bool


def package_versions() -> dict[str, str]:
    """Of Python and of the packages that results depend on, read without importing any."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = MISSING
    return versions


def hf_home() -> Path:
    """Where Hugging Face's libraries keep models and data sets (huggingface_hub/constants.py)."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    return Path(os.environ.get("HF_HOME") or cache / "huggingface").expanduser()


def clock_ahead_s(folder: Path) -> float:
    """How far this host's clock is ahead of the one that stamps the files of a folder."""
    before = time.time()
    stamped = filesystem_now(folder)
    return (before + time.time()) / 2 - stamped


def write_latency_s(folder: Path) -> float:
    """The median time of a small file's way to the disk, as a heartbeat or a sample takes it."""
    taken = []
    for _ in range(5):
        start = time.monotonic()
        write_whole(folder / f"latency-{platform.node()}", "x")
        taken.append(time.monotonic() - start)
    return statistics.median(taken)


def _is_refused(held: Path) -> bool:
    """Whether a name that the login node has taken is refused here, as it must be, and not for want of links."""
    try:
        return not create_exclusive(held, "compute node")
    except OSError:
        return False


def look_around(folder: Path) -> NodeReport:
    """The report on this node; `folder` holds what the login node wrote."""
    home = hf_home()
    return NodeReport(
        host=platform.node(),
        versions=package_versions(),
        link_refused=_is_refused(folder / HELD),
        clock_ahead_s=clock_ahead_s(folder),
        write_s=write_latency_s(folder),
        gpus=[gpu.name for gpu in visible_gpus()],
        gpu_mask=os.environ.get("CUDA_VISIBLE_DEVICES"),
        driver=driver_version(),
        tmpdir=os.environ.get("TMPDIR", ""),
        hf_home=str(home),
        hf_home_readable=os.access(home, os.R_OK | os.X_OK),
    )


def main() -> None:
    """Leaves the report in the folder that is named."""
    folder = Path(sys.argv[1])
    write_whole(folder / REPORT, to_json(dataclasses.asdict(look_around(folder))))


if __name__ == "__main__":
    main()
