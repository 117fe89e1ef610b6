"""How long the light commands take, beside the bare interpreter and a bare `import click` in the same call.

`hpc-bench --help` (target 0.3 s) and `hpc-bench plan` of the quickstart sweep (target 0.8 s), as fresh processes.
"""

from __future__ import annotations

import sys
import tempfile
from functools import partial
from pathlib import Path
from statistics import median

import click
from paired import interleave, print_figure, print_machine, print_times, seconds_of_command

PROGRAM = str(Path(sys.executable).with_name("hpc-bench"))
TARGETS_S = {"--help": 0.3, "plan": 0.8}


@click.command()
@click.option("--quick", is_flag=True, help="5 rounds instead of 30.")
def main(quick: bool) -> None:
    """Time the light commands."""
    print_machine()
    with tempfile.TemporaryDirectory() as folder:
        seconds_of_command([PROGRAM, "init"], cwd=folder)
        commands = {
            "python -c pass": [sys.executable, "-c", "pass"],
            "python -c 'import click'": [sys.executable, "-c", "import click"],
            "--help": [PROGRAM, "--help"],
            "plan": [PROGRAM, "plan", "sweep.yaml"],
        }
        ways = {name: partial(seconds_of_command, command, cwd=folder) for name, command in commands.items()}
        interleave(ways, 1)  # writes the bytecode, fills the file cache
        times = interleave(ways, 5 if quick else 30)
    print_times(times)
    for name, target_s in TARGETS_S.items():
        middle = median(times[name])
        measured = f"median {middle:.3f} s, min {min(times[name]):.3f} s"
        print_figure(f"`hpc-bench {name}`", f"at most {target_s} s", measured, met=middle <= target_s)


if __name__ == "__main__":
    main()
