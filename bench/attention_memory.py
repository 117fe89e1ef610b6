"""Peak memory of one layer's attention under each masker, against dense attention.

2,000 queries behind 32,768 keys, 8 heads, 2 key heads of 64 channels, float32, on the CPU, a bool mask as transformers
makes it; maskers that learn from a prefill have read one. Each measurement is a process of its own: how far the call
lifts its peak of resident memory, which is reset before it. Target: at most 1.5 times dense attention's.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import click
from paired import print_figure, print_machine

PAST, QUERIES, READING = 32_768, 2_000, 64
"""Keys before the pass; its queries; queries of the prefill that observing maskers see."""
CHAINS = (
    "dense",
    "sink+local",
    "oracle_top_k",
    "quest",
    "double_sparsity",
    "h2o",
    "snapkv",
    "random_sampling",
    "oracle_top_p",
    "pq_cache",
)
TARGET = 1.5


def reset_peak_mb() -> float:
    """The resident memory, which becomes this process's peak so far (Linux, proc(5), clear_refs)."""
    Path("/proc/self/clear_refs").write_text("5")
    return peak_mb()


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(name: str, folder: Path) -> dict[str, float]:
    """The MB that one call adds, and its seconds."""
    import torch
    from maskers import SHAPE, Layer, make_chain

    from hpc_bench.adapters.sparse.attention_interface import attend
    from hpc_bench.adapters.sparse.layer_pass import causal_mask
    from hpc_bench.adapters.sparse.state import SparseState

    torch.set_num_threads(1)
    layer, chain = Layer.random(PAST + QUERIES), make_chain(name, folder)
    mask = causal_mask(PAST, QUERIES, PAST + QUERIES, layer.key.device)
    module = torch.nn.Module()
    module.num_key_value_groups = SHAPE.heads // SHAPE.kv_heads
    state = SparseState(chain, is_dense=True)
    with torch.inference_mode():
        if chain:
            layer.part(state, PAST - READING, PAST).look_on()
        state = SparseState(chain, memos=state.memos, position=PAST)
        state.begin_pass(QUERIES)
        query = layer.query[:, :, PAST:].clone()
        before, started = reset_peak_mb(), time.perf_counter()
        attend(module, query, layer.key, layer.value, mask, sparse_state=state if chain else None)
    return {"mb": peak_mb() - before, "seconds": time.perf_counter() - started}


def measure_apart(name: str, folder: str, runs: int) -> tuple[float, float]:
    """Medians of MB and seconds, each run a process of its own."""
    command = [sys.executable, __file__, "--measure", name, folder]
    outputs = [subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout for _ in range(runs)]
    measured = [json.loads(output) for output in outputs]
    return median(one["mb"] for one in measured), median(one["seconds"] for one in measured)


@click.command()
@click.option("--quick", is_flag=True, help="One run of each instead of 3.")
@click.option("--only", multiple=True, help="Dense attention and these alone.")
@click.option("--measure", "one", nargs=2, hidden=True, help="NAME FOLDER: be one process.")
def main(quick: bool, only: tuple[str, ...], one: tuple[str, str] | None) -> None:
    """Measure every chain's peak memory."""
    if one:
        print(json.dumps(measure(one[0], Path(one[1]))))
        return
    print_machine()
    with tempfile.TemporaryDirectory() as folder:
        dense, seconds = measure_apart("dense", folder, 1 if quick else 3)
        print(f"dense attention: {dense:.0f} MB, {seconds:.2f} s")
        for name in CHAINS[1:]:
            if only and name not in only:
                continue
            mb, seconds = measure_apart(name, folder, 1 if quick else 3)
            measured = f"{mb / dense:.2f} x ({mb:.0f} MB against {dense:.0f} MB; {seconds:.1f} s)"
            print_figure(f"peak memory, {name}", f"at most {TARGET:g} x dense", measured, met=mb <= TARGET * dense)


if __name__ == "__main__":
    main()
