"""Runs Slurm's own commands: in an environment free of an enclosing job, with its messages made one line."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess

from hpc_bench.errors import BackendError
from hpc_bench.running.slurm.environment import asked_clusters, clean_environment
from hpc_bench.sweep.slurm_section import SlurmSection

__all__ = [
    "DEFAULT_MAX_ARRAY_SIZE",
    "has_slurm",
    "max_array_size",
    "on_cluster",
    "read_job",
    "run_slurm",
    "sbatch_command",
    "slurm_message",
    "would_submit",
]

TIMEOUT_S = 60.0
_PARSABLE = re.compile(r"(\d+)(?:;(\S+))?")
_SENTENCE = re.compile(r"Submitted batch job (\d+)(?: on cluster (\S+))?")
DEFAULT_MAX_ARRAY_SIZE = 1001
"""Of clusters that say nothing (slurm.conf(5))."""


def has_slurm() -> bool:
    """Whether jobs can be submitted from this machine."""
    return shutil.which("sbatch") is not None and shutil.which("srun") is not None


def sbatch_command(script: str, cluster: str | None = None) -> list[str]:
    """sbatch with the options of a script, which on the command line win over SBATCH_* variables."""
    lines = [line.removeprefix("#SBATCH ") for line in script.splitlines() if line.startswith("#SBATCH ")]
    return ["sbatch", "--parsable", *on_cluster(cluster), *(option for line in lines for option in shlex.split(line))]


def read_job(output: str) -> tuple[str, str]:
    """The job's id and its cluster, where sbatch names one, whatever a wrapper prints around them; ValueError if there
    is none.
    """
    for line in reversed(output.splitlines()):
        match = _PARSABLE.fullmatch(line.strip()) or _SENTENCE.fullmatch(line.strip())
        if match:
            return match.group(1), match.group(2) or ""
    raise ValueError(f"sbatch printed no job id, but {output.strip()!r}")


def would_submit(script: str, settings: SlurmSection) -> str:
    """What sbatch says of a script without submitting it; BackendError if it would refuse."""
    command = sbatch_command(script, settings.clusters)
    return run_slurm(*command, "--test-only", text=script, settings=settings)


def run_slurm(
    *command: str, text: str | None = None, timeout_s: float = TIMEOUT_S, settings: SlurmSection | None = None
) -> str:
    """What a Slurm command printed, given `text` as its input; BackendError holds Slurm's own message. `settings`: what
    a submission is asked for with, over variables of the environment.
    """
    try:
        done = subprocess.run(
            command,
            input=text,
            stdin=subprocess.DEVNULL if text is None else None,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            env={**clean_environment(settings), "SLURM_BITSTR_LEN": "0"},  # squeue cuts long lists of array tasks short
            check=False,
        )
    except FileNotFoundError as error:
        raise BackendError(f"{command[0]} is not on this machine; run this where Slurm's commands are") from error
    except subprocess.TimeoutExpired as error:
        raise BackendError(f"{command[0]} gave no answer within {timeout_s:g} s; is slurmctld up?") from error
    if done.returncode:
        raise BackendError(slurm_message(done.stderr) or f"{command[0]} exited with code {done.returncode}")
    return done.stdout if not done.stderr or done.stdout else done.stderr


def on_cluster(name: str | None) -> list[str]:
    """The option that has a command ask another cluster than the default one."""
    return [f"--clusters={name}"] if name else []


def slurm_message(output: str) -> str:
    """Slurm's complaint on one line, without the program's name in front of each of its lines."""
    lines = (re.sub(r"^\w+: (error: |fatal: )?", "", line).strip() for line in output.strip().splitlines())
    return "; ".join(filter(None, lines))


def max_array_size(settings: SlurmSection) -> int:
    """How many tasks an array may have where it is submitted; BackendError if Slurm cannot be asked."""
    return min(_max_array_size(cluster) for cluster in asked_clusters(settings))


def _max_array_size(cluster: str) -> int:
    config = run_slurm("scontrol", *on_cluster(cluster), "show", "config")
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", config, re.MULTILINE)
    return int(found.group(1)) if found else DEFAULT_MAX_ARRAY_SIZE
