"""The commands that make the files which some maskers need."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args

import click

from hpc_bench.attention.maskers.hash_attention import Activation
from hpc_bench.cli.console import echo, make_console
from hpc_bench.errors import SweepError
from hpc_bench.places import temporary_folder

if TYPE_CHECKING:
    from hpc_bench.adapters.calibration.hash_training import HashOptions
    from hpc_bench.adapters.calibration.making import Material, Stage

__all__ = ["calibrate_channels", "train_hash"]

_Command = TypeVar("_Command", bound=Callable[..., Any])
_FILE = click.Path(path_type=Path)
_REQUEST = (
    click.argument("model"),
    click.argument("output", type=_FILE),
    click.option("--text", type=_FILE, metavar="FILE", help="A UTF-8 text file for the model to read, in pieces."),
    click.option("--benchmark", metavar="NAME", help="Or the contexts of a benchmark; no question is read."),
    click.option("--subset", metavar="NAME", help="Which subset of the benchmark."),
    click.option(
        "--context-tokens", type=int, default=2048, show_default=True, help="Read at once: half as much text, twice."
    ),
    click.option("--samples", type=int, default=16, show_default=True, help="Read so many texts at most."),
    click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True),
    click.option("--gpus", type=int, default=1, show_default=True, help="Spread the model over so many GPUs."),
    click.option(
        "--dtype",
        type=click.Choice(["auto", "bfloat16", "float16", "float32"]),
        default="auto",
        show_default=True,
        help="Of the model; auto: as it was stored.",
    ),
    click.option("--revision", help="Of a model on the hub."),
    click.option("--trust-remote-code", is_flag=True, help="As in a sweep."),
)


def _takes_request(command: _Command) -> _Command:
    """The arguments that are the fields of a FileRequest."""
    for parameter in reversed(_REQUEST):
        command = parameter(command)
    return command


@click.command("train-hash")
@_takes_request
@click.option("--bits", type=int, default=32, show_default=True, help="Of a code.")
@click.option("--mlp-layers", type=int, default=3, show_default=True)
@click.option("--mlp-hidden", type=int, default=128, show_default=True)
@click.option("--activation", type=click.Choice(get_args(Activation)), default="silu", show_default=True)
@click.option("--steps", type=int, default=400, show_default=True, help="Training steps a layer.")
@click.option("--seed", type=int, default=0, show_default=True)
def train_hash(
    bits: int, mlp_layers: int, mlp_hidden: int, activation: Activation, steps: int, seed: int, **request: Any
) -> None:
    """Train the networks of hash_attention for MODEL and write them to OUTPUT (.safetensors).

    MODEL is named as in a sweep. What is learned: codes that agree for a query and the keys that it attends to most.
    """
    from hpc_bench.adapters.calibration import hash_training
    from hpc_bench.adapters.calibration.making import gather, write_tensors
    from hpc_bench.adapters.calibration.request import FileRequest

    try:
        options = hash_training.HashOptions(bits, mlp_layers, mlp_hidden, activation, steps, seed)
    except ValueError as error:
        raise SweepError(str(error)) from error
    asked = FileRequest(**request)
    with _progress() as stage:
        material = gather(asked, stage)
        advance = stage("training", steps * len(material.pieces[0]))
        weights = hash_training.train_hash(material.pieces, options, material.device, advance)
    write_tensors(asked.output, weights, f"hpc-bench attention train-hash {asked.model}")
    echo(f"wrote {asked.output}: networks of {bits} bits for {len(material.pieces[0])} layers of {asked.model}")
    _print_hash_recall(asked.output, options, material)
    size = "".join(
        f", {name}: {value}"
        for name, value, usual in (
            ("bits", bits, 32),
            ("mlp_layers", mlp_layers, 3),
            ("mlp_hidden", mlp_hidden, 128),
            ("activation", activation, "silu"),
        )
        if value != usual
    )
    _print_use("hash_attention", f"weights: {_quoted(asked.output)}{size}")


@click.command("calibrate-channels")
@_takes_request
def calibrate_channels(**request: Any) -> None:
    """Order the channels of MODEL's keys for double_sparsity and write the order to OUTPUT (.safetensors).

    MODEL is named as in a sweep. A channel counts for as much as it adds to the scores.
    """
    from hpc_bench.adapters.calibration.channels import order_channels
    from hpc_bench.adapters.calibration.making import gather, write_tensors
    from hpc_bench.adapters.calibration.request import FileRequest

    asked = FileRequest(**request)
    with _progress() as stage:
        material = gather(asked, stage)
    order = order_channels(material.pieces)
    write_tensors(asked.output, order, f"hpc-bench attention calibrate-channels {asked.model}")
    echo(f"wrote {asked.output}: the order of channels in {len(order)} layers of {asked.model}")
    _print_channel_recall(asked.output, material)
    _print_use("double_sparsity", f"channels: {_quoted(asked.output)}")


@contextmanager
def _progress() -> Iterator[Stage]:
    """Bars on standard error, one a stage; one line a stage where that is no terminal."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    if not sys.stderr.isatty():

        def say(title: str, steps: int) -> Callable[[], None]:
            echo(f"{title}: {steps} steps", err=True)
            return lambda: None

        yield say
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=make_console(stderr=True), transient=True) as bars:

        def begin(title: str, steps: int) -> Callable[[], None]:
            task = bars.add_task(title, total=steps)
            return lambda: bars.advance(task)

        yield begin


def _print_hash_recall(output: Path, options: HashOptions, material: Material) -> None:
    from hpc_bench.adapters.calibration.capture import shape_of_pieces
    from hpc_bench.adapters.calibration.hash_training import random_planes
    from hpc_bench.adapters.calibration.making import write_tensors
    from hpc_bench.adapters.calibration.recall import BEST, measure_recall
    from hpc_bench.attention.maskers.hash_attention import HashAttention

    size = (options.bits, options.mlp_layers, options.mlp_hidden, options.activation)
    trained = measure_recall(HashAttention(BEST, str(output), *size), material.held_out, material.device)
    with temporary_folder() as folder:
        planes = folder / "planes.safetensors"
        write_tensors(
            planes, random_planes(shape_of_pieces(material.pieces), options.bits, options.seed), "random planes"
        )
        masker = HashAttention(BEST, str(planes), options.bits, mlp_layers=1)
        untrained = measure_recall(masker, material.held_out, material.device)
    _print_recall(f"{trained:.3f}, of untrained random codes of {options.bits} bits: {untrained:.3f}", material)


def _print_channel_recall(output: Path, material: Material) -> None:
    from hpc_bench.adapters.calibration.capture import shape_of_pieces
    from hpc_bench.adapters.calibration.recall import BEST, measure_recall
    from hpc_bench.attention.maskers.double_sparsity import DoubleSparsity

    head_dim, shown = shape_of_pieces(material.pieces).head_dim, []
    for factor in (16, 4):
        masker = DoubleSparsity(BEST, str(output), group_factor=min(factor, head_dim))
        found = measure_recall(masker, material.held_out, material.device)
        shown.append(f"{found:.3f} by {max(1, head_dim // factor)} of {head_dim} channels (group_factor {factor})")
    _print_recall(", ".join(shown), material)


def _print_recall(figures: str, material: Material) -> None:
    texts = len(material.held_out)
    echo(
        f"recall on {texts} text{'s' * (texts > 1)} held out (share of the 1/32 of keys that score highest): {figures}"
    )


def _print_use(masker: str, options: str) -> None:
    """The lines for a sweep, with the paper's habit of keeping the first and the last tokens too."""
    echo("use it in a sweep, under sparse_attention_configs:")
    echo(f"  {masker}: [{{sink: 4}}, {{local: 64}}, {{{masker}: {{heavy: 0.05, {options}}}}}]")


def _quoted(path: Path) -> str:
    """As a YAML string, which any JSON string is."""
    import json

    return json.dumps(str(path.absolute()), ensure_ascii=False)
