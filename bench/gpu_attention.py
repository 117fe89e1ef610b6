"""Decoding under each masker on a GPU: tokens a second and peak memory against dense attention, and how long it fits.

A random model in the shape of Llama-3.1-8B in bfloat16, made on the device, and a context of random tokens. Each masker
decodes from the same prefill, as an adapter's answers do; dense attention is transformers' own SDPA call. The longest
context is sought by doubling until the memory is full. `--tiny` is a shape for the CPU, to see that the script works.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import torch
from maskers import make_chain
from paired import print_machine

from hpc_bench import catalog
from hpc_bench.adapters.device import device_name
from hpc_bench.adapters.sparse import attention_interface
from hpc_bench.adapters.sparse.passes import fork_cache
from hpc_bench.adapters.sparse.state import SparseState, now
from hpc_bench.attention.base import Chain
from hpc_bench.attention.model_shape import ModelShape, shape_of_config

LLAMA_8B = {
    "vocab_size": 128_256,
    "hidden_size": 4096,
    "intermediate_size": 14_336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "rope_parameters": {"rope_type": "default", "rope_theta": 500_000.0},
}
TINY = {
    **LLAMA_8B,
    "vocab_size": 512,
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
LONGEST = 2**22
CHUNK = 2048
"""Tokens of a forward pass of the prefill: activations of all tokens at once would fill the memory before the cache."""


class Model:
    """The model and what is asked of it."""

    def __init__(self, config: dict[str, Any], device: torch.device) -> None:
        from transformers import LlamaConfig, LlamaForCausalLM

        attention_interface.register()
        self.device = device
        self.config = LlamaConfig(**config, max_position_embeddings=LONGEST)
        self.config._attn_implementation = attention_interface.NAME
        torch.manual_seed(0)
        default = torch.get_default_dtype()
        torch.set_default_dtype(torch.bfloat16)
        try:
            with device:
                self._llama = LlamaForCausalLM(self.config).eval()
        finally:
            torch.set_default_dtype(default)

    @property
    def shape(self) -> ModelShape:
        """As maskers see it."""
        shape = shape_of_config(self.config.to_dict())
        assert shape
        return shape

    def read(self, context: int, chain: Chain) -> tuple[Any, SparseState]:
        """Cache and state behind a dense prefill, chunk by chunk; maskers note in the last chunk alone."""
        from transformers import DynamicCache

        cache = DynamicCache(config=self.config)
        ids = torch.randint(self.config.vocab_size, (1, context), generator=torch.Generator().manual_seed(0))
        state = SparseState(chain, is_dense=True)
        for start in range(0, context, CHUNK):
            last = start + CHUNK >= context
            state.begin_pass(min(CHUNK, context - start))
            self._forward(ids[:, start : start + CHUNK], cache, state if last and chain else None)
        return cache, state

    def decode(self, cache: Any, state: SparseState | None, tokens: int) -> float:
        """Seconds of so many greedy tokens."""
        ids = torch.zeros(1, 1, dtype=torch.int64)
        started = now(self.device)
        for _ in range(tokens):
            if state:
                state.begin_pass(1)
            ids = self._forward(ids, cache, state)
        return now(self.device) - started

    def _forward(self, ids: torch.Tensor, cache: Any, state: SparseState | None) -> torch.Tensor:
        extra = {} if state is None else {"sparse_state": state}
        output = self._llama(ids.to(self.device), past_key_values=cache, use_cache=True, logits_to_keep=1, **extra)
        return output.logits[:, -1:].argmax(-1)


@contextmanager
def peak_gb(device: torch.device) -> Iterator[list[float]]:
    """Of the device's memory, meanwhile; nothing on a CPU."""
    peak: list[float] = []
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    yield peak
    if device.type == "cuda":
        peak.append(torch.cuda.max_memory_allocated(device) / 2**30)


def measure(model: Model, chain: Chain, context: int, tokens: int) -> str:
    """Dense attention and the chain in turns, three times each, from one prefill; "out of memory" if it is."""
    try:
        cache, read = model.read(context, chain)
        times: dict[str, list[float]] = {"dense": [], "sparse": []}
        for _ in range(4):
            times["dense"].append(model.decode(fork_cache(cache), None, tokens))
            with peak_gb(model.device) as peak:
                state = SparseState(chain, memos=read.memos, position=context) if chain else None
                times["sparse"].append(model.decode(fork_cache(cache), state, tokens))
    except torch.OutOfMemoryError:
        return "out of memory | | | "
    dense, sparse = (tokens / min(times[way][1:]) for way in ("dense", "sparse"))  # the first call is slower
    memory = f"{peak[0]:.2f} GB" if peak else "not measured"
    return f"{sparse:.1f} | {dense:.1f} | {sparse / dense:.2f} x | {memory}"


def longest_context(model: Model, chain: Chain, start: int, most: int) -> str:
    """Doubles the context until the memory is full, or `most` is reached."""
    fits, context = "none", start
    while context <= most:
        try:
            cache, read = model.read(context, chain)
            model.decode(cache, SparseState(chain, memos=read.memos, position=context) if chain else None, 2)
        except torch.OutOfMemoryError:
            return f"{fits} (not {context:,})"
        finally:
            cache = read = None
            if model.device.type == "cuda":
                torch.cuda.empty_cache()
        fits, context = f"{context:,}", 2 * context
    return f"{fits} or more"


@click.command()
@click.option("--tiny", is_flag=True, help="A small shape and context, for the CPU.")
@click.option("--device", "name", default="cuda", show_default=True)
@click.option("--layers", type=int, help="Instead of 32.")
@click.option("--context", default=32_768, show_default=True, help="Tokens.")
@click.option("--tokens", default=32, show_default=True, help="To decode.")
@click.option("--most", default=2**20, show_default=True, help="Where to stop doubling the context.")
@click.option("--only", multiple=True, help="These maskers alone.")
def main(
    tiny: bool, name: str, layers: int | None, context: int, tokens: int, most: int, only: tuple[str, ...]
) -> None:
    """Measure every masker."""
    if tiny:
        name, context, tokens, most = "cpu", min(context, 1024), min(tokens, 4), min(most, 2048)
    device = torch.device(name)
    config = TINY if tiny else LLAMA_8B
    if layers:
        config = {**config, "num_hidden_layers": layers}
    print_machine()
    started = time.perf_counter()
    model = Model(config, device)
    print(
        f"ran on: {device_name(device.type)}; {'a tiny shape' if tiny else 'the shape of Llama-3.1-8B'}, "
        f"{config['num_hidden_layers']} layers, bfloat16 (made in {time.perf_counter() - started:.0f} s); "
        f"{context:,} tokens of context, {tokens} decoded; longest context up to {most:,} tokens"
    )
    print("| masker | tokens/s | dense, in turns | ratio | peak memory | longest context |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        for masker in only or ["dense", *catalog.names("masker")]:
            chain = make_chain(masker, Path(folder), model.shape)
            row = measure(model, chain, context, tokens)
            print(f"| {masker} | {row} | {longest_context(model, chain, context, most)} |", flush=True)


if __name__ == "__main__":
    main()
