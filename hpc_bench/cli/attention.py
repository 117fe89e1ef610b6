"""Commands about sparse attentions: what there is, and what a chain keeps."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from hpc_bench.cli.arguments import load_sweep_file
from hpc_bench.cli.calibration import calibrate_channels, train_hash
from hpc_bench.cli.console import echo, echo_problem, make_console
from hpc_bench.errors import PluginError, SweepError, in_file, unknown_name, within
from hpc_bench.places import check_temporary_folder

__all__ = ["attention"]


@click.group()
def attention() -> None:
    """Show sparse attentions, and make the files that some of them need."""


@attention.command("list")
@click.argument("names", nargs=-1, metavar="[NAME]...")
def list_maskers(names: tuple[str, ...]) -> None:
    """Show every masker: meaning, parameters with their defaults, source; with NAME, also what they mean."""
    from hpc_bench import catalog
    from hpc_bench.cli.options_view import option_lines, print_list

    for name in names:
        if name not in catalog.names("masker"):
            raise SweepError(unknown_name("masker", name, catalog.names("masker")))
    found: dict[str, Any] = {}
    for name in names or catalog.names("masker"):
        try:
            found[name] = catalog.resolve("masker", name)
        except PluginError as error:  # a broken plug-in hides no other masker
            if names:
                raise
            echo_problem("Warning", error)
    console = make_console()
    console.print(_maskers_table(found))
    for name in dict.fromkeys(names):
        console.print(f"\n{name}: {found[name].__doc__}", markup=False, highlight=False)
        print_list(console, "parameters", option_lines(found[name]))


def _maskers_table(maskers: Mapping[str, type[Any]]) -> Any:
    """Every masker with its parameters, their defaults, its source and one line of meaning."""
    from rich.table import Table

    table = Table("masker", "parameters", "meaning", "source")
    for name, cls in maskers.items():
        parameters = ", ".join(_parameter(field) for field in dataclasses.fields(cls))
        meaning = " ".join((cls.__doc__ or "").strip().split("\n\n")[0].split())
        table.add_row(name, parameters, meaning, getattr(cls, "source", ""))
    return table


def _parameter(field: dataclasses.Field[Any]) -> str:
    default = "" if field.default is dataclasses.MISSING else f" = {field.default}"
    if field.default_factory is not dataclasses.MISSING:
        default = f" = {field.default_factory()}"
    kind = field.type if isinstance(field.type, str) else getattr(field.type, "__name__", str(field.type))
    kind = "file" if field.metadata.get("file") else kind
    return f"{field.name}: {kind}{default}"


@attention.command()
@click.argument("sweep_file", type=click.Path(path_type=Path))
@click.argument("config")
@click.option("--model", default="demo/tiny-2l", show_default=True, help="Whose queries and keys: as in a sweep.")
@click.option("--context", type=click.IntRange(1, 3500), default=48, show_default=True, help="Tokens before.")
@click.option("--question", type=click.IntRange(1, 500), default=16, show_default=True, help="Tokens that ask.")
@click.option("--layer", type=click.IntRange(0), default=0, show_default=True)
@click.option("--head", type=click.IntRange(0), default=0, show_default=True)
@click.option("--png", type=click.Path(path_type=Path, dir_okay=False), help="Write an image there too.")
def show(
    sweep_file: Path, config: str, model: str, context: int, question: int, layer: int, head: int, png: Path | None
) -> None:
    """Draw what CONFIG of a sweep keeps of a short text: one line a query, one character a key."""
    from hpc_bench.adapters.calibration.picture import draw_mask, save_png

    sweep = load_sweep_file(sweep_file, ())
    with in_file(str(sweep_file)), within("sparse_attention_configs"):
        if config not in sweep.attentions:
            raise SweepError(unknown_name("config", config, sweep.attentions))
        chosen = sweep.attentions[config]
        if not chosen.chain:
            raise SweepError("is dense: it keeps every key", config)
    if png and png.exists():
        raise SweepError(f"{png} exists already, and is left as it is; name another file", "--png")
    adapter = _load(model)
    with in_file(str(sweep_file)), within("sparse_attention_configs", config):
        picture = _explained(lambda: draw_mask(adapter, chosen, context, question, layer, head))
    title = f"{config}, {model}, layer {layer} of 0-{picture.layers - 1}, head {head} of 0-{picture.heads - 1}"
    summary = f"{title}: {picture.density:.1%} of the visible keys"
    echo(summary)
    echo("\n".join(picture.lines(make_console().width)))
    echo(f"rows: queries; columns: keys, the first {picture.context} are the context")
    echo("█ kept   ▒ kept by chance, or some of several   · dropped")
    if scale := picture.scale(make_console().width):
        echo(f"about: {scale}")
    if picture.density == 1:
        echo("everything was kept: the text is shorter than the budget; try a longer --context")
    if png:
        try:
            save_png(picture, summary, png)
        except OSError as error:
            raise SweepError(f"{png} cannot be written: {error.strerror}", "--png") from error
        echo(f"wrote {png}")


def _load(model: str) -> Any:
    """A model that a user names; its own mistakes are the user's to fix."""
    check_temporary_folder()
    from hpc_bench.adapters.huggingface import HuggingFaceAdapter
    from hpc_bench.adapters.model_source import find_model
    from hpc_bench.values import ModelOptions

    with within("--model"):
        found = find_model(model, None)
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    return _explained(lambda: HuggingFaceAdapter.load(ModelOptions(found.source)))


def _explained(work: Any) -> Any:
    from hpc_bench.adapters.base import AdapterError

    try:
        return work()
    except AdapterError as error:
        raise SweepError(f"{error} (--model names another model)") from error


attention.add_command(train_hash)
attention.add_command(calibrate_channels)
