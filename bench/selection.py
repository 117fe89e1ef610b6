"""What each masker's selection costs in a decode step, against the dense attention that it is to spare.

One query at 32,768 keys, 8 heads, 2 key heads of 64 channels, float32, on the CPU. Selection is all that a layer does
under the masker but the attention call itself: reading the new key, choosing, bias, density, observing. Dense attention
is scaled_dot_product_attention with the heads of a group packed as queries of their key head, as transformers calls it
for one query with a mask. Target for some maskers: at most as long as dense attention.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import click
import torch
import torch.nn.functional as F  # noqa: N812
from maskers import SHAPE, Layer, make_masker, variants
from paired import Times, interleave, print_figure, print_machine, ratio, seconds

from hpc_bench.adapters.sparse import layer_pass
from hpc_bench.adapters.sparse.layer_pass import LayerPass
from hpc_bench.adapters.sparse.state import SparseState
from hpc_bench.attention.base import Masker

KEYS, READING = 32_768, 64
"""Keys; queries of the prefill that observing maskers see (all keys are read)."""
TARGET = 1.0
HELD_TO_IT = ("sink", "local", "oracle_top_k", "quest", "double_sparsity")


def prepare(layer: Layer, masker: Masker) -> SparseState:
    """The state behind a prefill and a first decode step, in which some maskers choose once."""
    keys = layer.key.shape[2]
    state = SparseState((masker,), is_dense=True)
    layer.part(state, keys - 2 - READING, keys - 2).look_on()
    state = SparseState((masker,), memos=state.memos, position=keys - 2)
    layer.part(state, keys - 2, keys - 1).attend()
    return state


def last_step(layer: Layer, masker: Masker, prepared: SparseState) -> LayerPass:
    keys = layer.key.shape[2]
    state = SparseState((masker,), memos=prepared.memos, position=keys - 1)
    return layer.part(state, keys - 1, keys)


@contextmanager
def no_attention(output: torch.Tensor) -> Iterator[None]:
    """The attention call costs nothing meanwhile."""
    real = layer_pass.fused_attention
    layer_pass.fused_attention = lambda *_: output
    try:
        yield
    finally:
        layer_pass.fused_attention = real


def measure(layer: Layer, masker: Masker, rounds: int) -> Times:
    prepared = prepare(layer, masker)
    query = layer.query[:, :, -1:].reshape(1, SHAPE.kv_heads, -1, SHAPE.head_dim)

    def dense() -> float:
        return seconds(lambda: F.scaled_dot_product_attention(query, layer.key, layer.value))

    def select() -> float:
        step = last_step(layer, masker, prepared)
        with no_attention(layer.query[:, :, -1:].transpose(1, 2)):
            return seconds(step.attend)

    interleave({"dense": dense, "selection": select}, 3)  # a process's first calls are slower
    return interleave({"dense": dense, "selection": select}, rounds)


@click.command()
@click.option("--quick", is_flag=True, help="9 rounds instead of 41.")
@click.option("--threads", default=2, show_default=True, help="Of torch.")
@click.option("--only", multiple=True, help="These maskers alone.")
def main(quick: bool, threads: int, only: tuple[str, ...]) -> None:
    """Time the selection of every masker."""
    print_machine()
    torch.set_num_threads(threads)
    # glibc keeps freed memory of this size for reuse from now on, as in any process that has loaded a model.
    torch.empty(30 * 2**20, dtype=torch.uint8)
    layer = Layer.random(KEYS)
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        for name, heavy in variants():
            if only and name not in only:
                continue
            times = measure(layer, make_masker(name, heavy, Path(folder)), 9 if quick else 41)
            took = ratio(times, "selection", "dense")
            spent = f"{1e3 * median(times['selection']):.2f} ms against {1e3 * median(times['dense']):.2f} ms"
            held = name in HELD_TO_IT
            figure = f"selection, {name}" + ("" if heavy is None else f", heavy {heavy}")
            target = f"at most {TARGET:g} x dense" if held else "none"
            print_figure(figure, target, f"{took:.2f} x ({spent})", met=not held or took <= TARGET)


if __name__ == "__main__":
    main()
