"""Runs Slurm's own commands: in an environment free of an enclosing job, with its messages made one line."""

from __future__ import annotations

import os
import re
import shutil
import subprocess

from hpc_bench.errors import BackendError

__all__ = ["clean_environment", "has_slurm", "max_array_size", "run_slurm", "slurm_message"]

TIMEOUT_S = 60.0
_OF_A_JOB = ("SLURM_", "SLURMD_", "SRUN_", "SUBMITIT_")
_KEPT = ("SLURM_CONF",)
_DEFAULT_MAX_ARRAY_SIZE = 1001


def has_slurm() -> bool:
    """Whether jobs can be submitted from this machine."""
    return shutil.which("sbatch") is not None and shutil.which("srun") is not None


def clean_environment() -> dict[str, str]:
    """This process's environment without what an enclosing job left there, which sbatch and srun would obey."""
    return {name: value for name, value in os.environ.items() if name in _KEPT or not name.startswith(_OF_A_JOB)}


def run_slurm(*command: str, text: str | None = None, timeout_s: float = TIMEOUT_S) -> str:
    """What a Slurm command printed, given `text` as its input; BackendError holds Slurm's own message."""
    try:
        done = subprocess.run(
            command,
            input=text,
            stdin=subprocess.DEVNULL if text is None else None,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            env={**clean_environment(), "SLURM_BITSTR_LEN": "0"},  # squeue cuts long lists of array tasks short
            check=False,
        )
    except FileNotFoundError as error:
        raise BackendError(f"{command[0]} is not on this machine; run this where Slurm's commands are") from error
    except subprocess.TimeoutExpired as error:
        raise BackendError(f"{command[0]} gave no answer within {timeout_s:g} s; is slurmctld up?") from error
    if done.returncode:
        raise BackendError(slurm_message(done.stderr) or f"{command[0]} exited with code {done.returncode}")
    return done.stdout if not done.stderr or done.stdout else done.stderr


def slurm_message(output: str) -> str:
    """Slurm's complaint on one line, without the program's name in front of each of its lines."""
    lines = (re.sub(r"^\w+: (error: |fatal: )?", "", line).strip() for line in output.strip().splitlines())
    return "; ".join(filter(None, lines))


def max_array_size() -> int:
    """How many tasks an array may have here; Slurm's default where there is no Slurm to ask."""
    if shutil.which("scontrol") is None:
        return _DEFAULT_MAX_ARRAY_SIZE
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", run_slurm("scontrol", "show", "config"), re.MULTILINE)
    return int(found.group(1)) if found else _DEFAULT_MAX_ARRAY_SIZE
