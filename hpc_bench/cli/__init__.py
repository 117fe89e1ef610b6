"""The command line. Light: no command imports torch, transformers, datasets or pandas before it must."""

from __future__ import annotations

from typing import Any

import click

from hpc_bench.cli.attention import attention
from hpc_bench.cli.benchmarks import benchmarks
from hpc_bench.cli.console import echo_problem, guard_standard_error, harmless_usage_errors
from hpc_bench.cli.doctor.command import doctor
from hpc_bench.cli.output import checked_output
from hpc_bench.cli.results import cancel, collect, logs, rescore, status
from hpc_bench.cli.sweeps import init, plan, prefetch, submit
from hpc_bench.errors import HpcBenchError
from hpc_bench.files import escape_unencodable_output

__all__ = ["main"]


class _Group(click.Group):
    """Shows a user's mistake as one line with exit code 2; anything else is a bug and shows its traceback."""

    def main(self, *args: Any, **extra: Any) -> Any:
        with checked_output():
            return super().main(*args, **extra)

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        with harmless_usage_errors():
            return super().make_context(*args, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        escape_unencodable_output()
        guard_standard_error()
        try:
            with harmless_usage_errors():
                return super().invoke(ctx)
        except HpcBenchError as error:
            echo_problem("Error", error)
            ctx.exit(2)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="hpc-bench")
def main() -> None:
    """Runs models x sparse attention configs x long-context benchmarks, and sums up what came out.

    \b
    hpc-bench init                                  write a sweep file to start from
    hpc-bench plan sweep.yaml                       what it means; writes nothing
    hpc-bench submit --backend local --gpus 0,1     run what is missing on this machine
    hpc-bench submit --backend slurm                or on a cluster
    hpc-bench status results/ --watch               follow it from any shell
    hpc-bench collect results/                      the summary
    hpc-bench rescore results/                      score the answers on disk again
    """


for command in (init, plan, prefetch, submit, status, logs, cancel, collect, rescore, doctor, attention, benchmarks):
    main.add_command(command)
