"""Causal language models of transformers: shared prefill, then answers under any chain of maskers."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from hpc_bench.adapters.base import AdapterError, ModelAdapter, Prefill
from hpc_bench.adapters.decoding import Decoder, eos_ids
from hpc_bench.adapters.device import DEVICES, check_device, device_name, peak_memory_gb
from hpc_bench.adapters.loading import check_kwargs, load_pretrained
from hpc_bench.adapters.prompt import Prompts
from hpc_bench.attention.base import AttentionConfig, Masker
from hpc_bench.attention.model_shape import positions_of_config, shape_of_config
from hpc_bench.errors import unknown_name
from hpc_bench.values import Answer, Generation, Json, ModelOptions, Sample, Truncation

if TYPE_CHECKING:
    from torch import Tensor

    from hpc_bench.adapters.sparse.state import Memos, SparseState

__all__ = ["HuggingFaceAdapter"]


@dataclass(frozen=True)
class _ReadContext:
    """The state of a Prefill."""

    ids: list[int]
    chat: bool
    cache: Any
    """transformers' DynamicCache; answers work on forks of it."""
    memos: Memos
    """What maskers noted while it was read."""
    notes_s: Mapping[Masker, float]
    """What that took, by masker: not part of the prefill's seconds, since each config bears its own maskers' alone."""
    sparse: AttentionConfig | None
    """The config under which it was read, if that was not dense."""
    density: float


class HuggingFaceAdapter(ModelAdapter):
    """One causal language model of transformers; `model` must have been loaded with this package's attention."""

    def __init__(self, model: Any, tokenizer: Any, options: ModelOptions) -> None:
        from hpc_bench.adapters.sparse.passes import Passes

        self._model = model
        self._tokenizer = tokenizer
        self._device = "cuda" if model.device.type == "cuda" else "cpu"
        self._prompts = Prompts(tokenizer, options.enable_thinking)
        self._eos = eos_ids(model, tokenizer)
        self._positions = positions_of_config(model.config.get_text_config().to_dict())
        self._passes = Passes(model)

    @classmethod
    def check_options(cls, options: ModelOptions) -> None:
        """Checks names and values; ValueError says what is allowed."""
        if options.device not in DEVICES:
            raise ValueError(unknown_name("device", options.device, DEVICES))
        if options.gpus < 1:
            raise ValueError("gpus must be at least 1")
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

    def prompt_tokens(self, sample: Sample) -> int:
        """Tokens of the sample's whole prompt, special tokens and chat template included."""
        context = self._prompts.context_ids(sample.context, chat=sample.chat)
        return len(context) + len(self._prompts.question_ids(sample, chat=sample.chat))

    def cut(self, sample: Sample, limit: int, truncation: Truncation) -> Sample:
        """Counts and cuts with the model's tokenizer."""
        return self._prompts.cut(sample, limit, truncation)

    def prefill(self, context: str, *, chat: bool, attentions: Sequence[AttentionConfig] = ()) -> Prefill:
        """Reads a context and keeps its keys and values, and what the maskers of `attentions` note of them."""
        ids = self._prompts.context_ids(context, chat=chat)
        self._check_length(len(ids), 1)
        cache = self._passes.new_cache()
        sparse = _sparse_prefill(attentions)
        state = _prefill_state(attentions, sparse)
        started = self._now()
        if ids:
            self._forward(cache, state, ids)
            if cache.get_seq_length() != len(ids):
                raise AdapterError(
                    f"{type(self._model).__name__} did not put its {len(ids)} context tokens into transformers' cache "
                    f"({cache.get_seq_length()} are there), so its prefill cannot be shared"
                )
        density = state.density() if sparse and state and ids else 1.0
        notes_s = dict(state.notes_s) if state else {}
        seconds = self._now() - started - sum(notes_s.values())
        read = _ReadContext(ids, chat, cache, state.memos if state else {}, notes_s, sparse, density)
        return Prefill(read, len(ids), seconds)

    def answer(self, prefill: Prefill, sample: Sample, attention: AttentionConfig, generation: Generation) -> Answer:
        """Feeds the question and decodes, both under `attention`, on a fork of the prefill's cache."""
        import torch

        from hpc_bench.adapters.sparse.passes import fork_cache

        context: _ReadContext = prefill.state
        _refuse_other_prefill(context, sample, attention)
        question = self._prompts.question_ids(sample, chat=sample.chat)
        if not question:
            raise AdapterError(f"the question of sample {sample.sample_id} is empty, with its answer prefix")
        self._check_length(len(context.ids) + len(question), generation.limit(sample.max_new_tokens))
        decoder = Decoder(self._tokenizer, self._eos, sample, generation)
        state = _answer_state(context, sample, attention)
        started = self._now()
        with torch.inference_mode():
            forward = partial(self._forward, fork_cache(context.cache), state)
            ids = decoder.decode(forward, context.ids, question)
        return Answer(
            text=self._prompts.opened_thought(chat=sample.chat) + decoder.text(ids),
            tokens_in=len(context.ids) + len(question),
            tokens_out=len(ids),
            cut_tokens=sample.cut_tokens,
            seconds=self._now() - started - (state.untimed_s if state else 0.0),
            prefill_s=prefill.seconds
            + sum(context.notes_s.get(masker, 0.0) for masker in dict.fromkeys(attention.chain)),
            density=state.density() if state else 1.0,
            layer_density=state.layer_density() if state else (),
            prefill_density=context.density,
            attention_error=state.error() if state else None,
        )

    def check_attention(self, attention: AttentionConfig) -> None:
        """AdapterError if a masker, or its file, does not fit this model."""
        shape = shape_of_config(self._model.config.get_text_config().to_dict())
        for masker in attention.chain:
            try:
                if shape:
                    masker.check_model(shape)
            except ValueError as error:
                raise AdapterError(f"{type(masker).__name__} does not fit this model: {error}") from error

    def check_attention_path(self, sample: Sample) -> None:
        """Asks for the prompt's logits three ways: the model's own attention, ours dense, and ours keeping all keys."""
        from hpc_bench.adapters.sparse.canary import check_attention_path

        context = self._prompts.context_ids(sample.context, chat=sample.chat)
        check_attention_path(self._passes, context, self._prompts.question_ids(sample, chat=sample.chat))

    def selections(self, context: str, question: str, attention: AttentionConfig) -> dict[int, Tensor]:
        """For each layer the probabilities with which keys are kept, float32 [heads, queries, keys] and NaN where
        they are hidden, for the queries of `question` behind `context`; of both, with `sparse_prefill`.
        """
        from hpc_bench.adapters.sparse.selections import record_selections

        self.check_attention(attention)
        before, behind = self._prompts.context_ids(context, chat=False), self._prompts.encode(question)
        self._check_length(len(before), len(behind))
        return record_selections(self._passes, before, behind, attention)

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
        return self._passes.feed(cache, ids, sparse)[:, -1]

    def _check_length(self, prompt: int, new: int) -> None:
        if self._positions is not None and prompt + new > self._positions:
            raise AdapterError(
                f"the prompt has {prompt} tokens and the answer may have {new}, but the model has only "
                f"{self._positions} positions; lower request_kwargs.max_context_length or "
                "generation_kwargs.max_new_tokens"
            )

    def _now(self) -> float:
        """Seconds, once the GPUs have done what they were given."""
        import torch

        if self._device == "cuda":
            for index in range(torch.cuda.device_count()):
                torch.cuda.synchronize(index)
        return time.perf_counter()


def _sparse_prefill(attentions: Sequence[AttentionConfig]) -> AttentionConfig | None:
    sparse = [attention for attention in attentions if attention.sparse_prefill]
    if sparse and len(attentions) > 1:
        raise ValueError("a config with sparse_prefill needs a prefill of its own")
    return sparse[0] if sparse else None


def _prefill_state(attentions: Sequence[AttentionConfig], sparse: AttentionConfig | None) -> SparseState | None:
    from hpc_bench.adapters.sparse.state import SparseState

    if sparse:
        return SparseState(sparse.chain)
    maskers = dict.fromkeys(masker for attention in attentions for masker in attention.chain)
    noting = tuple(masker for masker in maskers if masker.takes_notes)
    return SparseState(noting, is_dense=True) if noting else None


def _answer_state(context: _ReadContext, sample: Sample, attention: AttentionConfig) -> SparseState | None:
    from hpc_bench.adapters.sparse.state import SparseState

    if not attention.chain:
        return None
    return SparseState(
        attention.chain,
        memos=context.memos,
        position=len(context.ids),
        measure_error=attention.measure_error,
        measure_seed=sample.sample_id,
    )


def _refuse_other_prefill(context: _ReadContext, sample: Sample, attention: AttentionConfig) -> None:
    """ValueError if the prefill was made for something else."""
    if sample.chat != context.chat:
        raise ValueError(f"sample {sample.sample_id} has chat={sample.chat}, its prefill was made with the opposite")
    noted = {masker for _, _, masker in context.memos}
    missing = [masker for masker in attention.chain if masker.prepared_by_prefill and masker not in noted]
    if context.sparse != (attention if attention.sparse_prefill else None) or (missing and context.ids):
        raise ValueError(f"the prefill of sample {sample.sample_id} was not made for this attention config")
