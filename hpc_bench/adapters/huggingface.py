"""Causal language models of transformers: shared prefill, then answers under any chain of maskers."""

from __future__ import annotations

import copy
import inspect
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from hpc_bench.adapters.base import AdapterError, ModelAdapter, ModelOptions, Prefill
from hpc_bench.adapters.decoding import Decoder, eos_ids, token_limit
from hpc_bench.adapters.device import DEVICES, check_device, device_name, peak_memory_gb
from hpc_bench.adapters.loading import check_kwargs, load_pretrained
from hpc_bench.adapters.prompt import Prompts
from hpc_bench.attention.base import Chain
from hpc_bench.errors import unknown_name
from hpc_bench.records import Answer, Generation, Json, Sample

if TYPE_CHECKING:
    from torch import Tensor

    from hpc_bench.adapters.attention_interface import SparseState

__all__ = ["HuggingFaceAdapter"]


@dataclass(frozen=True)
class _ReadContext:
    """The state of a Prefill."""

    ids: list[int]
    chat: bool
    cache: Any
    """transformers' DynamicCache; answers work on forks of it."""


class HuggingFaceAdapter(ModelAdapter):
    """One causal language model of transformers; `model` must have been loaded with this package's attention."""

    def __init__(self, model: Any, tokenizer: Any, options: ModelOptions) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._device = "cuda" if model.device.type == "cuda" else "cpu"
        self._prompts = Prompts(tokenizer, options.max_context_length)
        self._eos = eos_ids(model, tokenizer)
        self._positions: int | None = getattr(model.config.get_text_config(), "max_position_embeddings", None)
        last_logits = "logits_to_keep" in inspect.signature(model.forward).parameters
        self._forward_kwargs = {"use_cache": True, **({"logits_to_keep": 1} if last_logits else {})}

    @classmethod
    def check_options(cls, options: ModelOptions) -> None:
        """Checks names and values; ValueError says what is allowed."""
        if options.device not in DEVICES:
            raise ValueError(unknown_name("device", options.device, DEVICES))
        if options.gpus < 1:
            raise ValueError("gpus must be at least 1")
        if options.max_context_length is not None and options.max_context_length < 1:
            raise ValueError("max_context_length must be at least 1")
        check_kwargs(options)

    @classmethod
    def check_device(cls, options: ModelOptions) -> str:
        """The kind of device, "cpu" or "cuda", after a small product on it came out right."""
        return check_device(options)

    @classmethod
    def load(cls, options: ModelOptions) -> HuggingFaceAdapter:
        """Loads model and tokenizer; AdapterError names what is wrong, out-of-memory errors pass unchanged."""
        cls.check_options(options)
        tokenizer, model = load_pretrained(options, check_device(options))
        return cls(model, tokenizer, options)

    def count_tokens(self, text: str) -> int:
        """Tokens of `text` with the model's tokenizer, special tokens left out."""
        return len(self._prompts.encode(text))

    def prefill(self, context: str, *, chat: bool) -> Prefill:
        """Reads a context with dense attention and keeps its keys and values."""
        import torch
        from transformers import DynamicCache

        ids, cut_tokens = self._prompts.context_ids(context, chat=chat)
        self._check_length(len(ids), 1)
        cache = DynamicCache(config=self._model.config)
        started = self._now()
        if ids:
            with torch.inference_mode():
                self._forward(cache, None, ids)
            if cache.get_seq_length() != len(ids):
                raise AdapterError(
                    f"{type(self._model).__name__} did not put its {len(ids)} context tokens into transformers' cache "
                    f"({cache.get_seq_length()} are there), so its prefill cannot be shared"
                )
        return Prefill(_ReadContext(ids, chat, cache), len(ids), cut_tokens, self._now() - started)

    def answer(self, prefill: Prefill, sample: Sample, attention: Chain, generation: Generation) -> Answer:
        """Feeds the question and decodes, both under `attention`, on a fork of the prefill's cache."""
        import torch

        from hpc_bench.adapters.attention_interface import SparseState

        context: _ReadContext = prefill.state
        if sample.chat != context.chat:
            raise ValueError(
                f"sample {sample.sample_id} has chat={sample.chat}, its prefill was made with the opposite"
            )
        question = self._prompts.question_ids(sample, chat=sample.chat)
        if not context.ids and not question:
            raise AdapterError(f"the prompt of sample {sample.sample_id} is empty")
        self._check_length(len(context.ids) + len(question), token_limit(sample, generation))
        decoder = Decoder(self._tokenizer, self._eos, sample, generation)
        sparse = SparseState(attention) if attention else None
        started = self._now()
        with torch.inference_mode():
            forward = partial(self._forward, _fork(context.cache), sparse)
            ids = decoder.decode(forward, context.ids, question)
        return Answer(
            text=decoder.text(ids),
            tokens_in=len(context.ids) + len(question),
            tokens_out=len(ids),
            cut_tokens=prefill.cut_tokens,
            seconds=self._now() - started,
            prefill_s=prefill.seconds,
            density=1.0 if sparse is None else sparse.density(),
        )

    def breaks_device(self, error: BaseException) -> bool:
        """After any CUDA error but a full memory: the process's context is lost."""
        import torch

        return isinstance(error, torch.AcceleratorError)

    def provenance(self) -> dict[str, Json]:
        """What scores depend on beside the sweep."""
        import torch
        import transformers

        config = self._model.config
        return {
            "device": device_name(self._device),
            "dtype": str(self._model.dtype).removeprefix("torch."),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "commit": getattr(config, "_commit_hash", None),
            "attention": config._attn_implementation,
        }

    def peak_memory_gb(self) -> float | None:
        """Of the process: GPU memory of its GPUs together, or resident memory of the host."""
        return peak_memory_gb(self._device)

    def _forward(self, cache: Any, sparse: SparseState | None, ids: list[int]) -> Tensor:
        """Feeds `ids` behind the cache, which grows; float32 logits of the last position, [1, vocabulary]."""
        import torch

        inputs = torch.tensor([ids], device=self._model.device)
        extra = {} if sparse is None else {"sparse_state": sparse}
        output = self._model(input_ids=inputs, past_key_values=cache, **self._forward_kwargs, **extra)
        if sparse is not None and sparse.queries == 0:
            raise AdapterError(f"{type(self._model).__name__} does not hand keyword arguments down to its attention")
        logits: Tensor = output.logits[:, -1].float()
        return logits

    def _check_length(self, prompt: int, new: int) -> None:
        if self._positions is not None and prompt + new > self._positions:
            raise AdapterError(
                f"the prompt has {prompt} tokens and the answer may have {new}, but the model has only "
                f"{self._positions} positions; lower request_kwargs.max_context_length"
            )

    def _now(self) -> float:
        """Seconds, once the GPUs have done what they were given."""
        import torch

        if self._device == "cuda":
            for index in range(torch.cuda.device_count()):
                torch.cuda.synchronize(index)
        return time.perf_counter()


def _fork(cache: Any) -> Any:
    """A cache that grows on its own and leaves the original as it is."""
    from transformers.cache_utils import DynamicLayer

    if any(type(layer) is not DynamicLayer for layer in cache.layers):
        return copy.deepcopy(cache)
    # This layer type grows by concatenation into new tensors, so that sharing the old ones is safe and costs nothing.
    fork = copy.copy(cache)
    fork.layers = [copy.copy(layer) for layer in cache.layers]
    return fork
