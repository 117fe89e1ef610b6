"""The command that checks what a sweep will need."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from hpc_bench.cli.arguments import SET, SWEEP, load_sweep_file
from hpc_bench.cli.backend_choice import submit_commands
from hpc_bench.cli.console import echo, echo_json, make_console
from hpc_bench.running import BACKENDS

__all__ = ["doctor"]


@click.command()
@SWEEP
@SET
@click.option(
    "--backend", type=click.Choice(list(BACKENDS)), help="Check for this one alone. Default: what `submit` may use."
)
@click.option("--results", type=click.Path(path_type=Path), help="Default: the sweep's base_result_dir, or results.")
@click.option("--probe", is_flag=True, help="Submit a one-minute job and report from inside.")
@click.option(
    "--probe-timeout", "timeout_s", type=click.FloatRange(min=1), default=300.0, show_default=True, help="Seconds."
)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.pass_context
def doctor(
    context: click.Context,
    sweep_file: Path | None,
    changes: tuple[str, ...],
    backend: str | None,
    results: Path | None,
    probe: bool,
    timeout_s: float,
    as_json: bool,
) -> None:
    """Check what a sweep (./sweep.yaml, or any) will need; says what is wrong and how to fix it, exit code 1."""
    from hpc_bench.cli.doctor.checks import Checkup, examine
    from hpc_bench.cli.doctor.finding import print_finding
    from hpc_bench.cli.doctor.needs import needs_of

    named = sweep_file or changes or Path("sweep.yaml").exists()
    sweep = load_sweep_file(sweep_file, changes) if named else None
    if probe and backend == "local":
        raise click.UsageError("--probe submits a job to Slurm; it needs --backend slurm")
    folder = results or (sweep.base_result_dir if sweep else Path("results"))
    checkup = Checkup(
        sweep=sweep,
        results=folder,
        needs=needs_of(sweep, backend or ("slurm" if probe else None)),
        commands=submit_commands(context),
        probe_timeout_s=timeout_s if probe else None,
        say=lambda text: echo(text, err=True),
    )
    console, findings = make_console(), []
    for finding in examine(checkup):
        findings.append(finding)
        if not as_json:
            print_finding(console, finding)
    if as_json:
        echo_json([vars(finding) for finding in findings])
    sys.exit(1 if any(finding.state == "wrong" for finding in findings) else 0)
