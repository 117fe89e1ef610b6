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
from hpc_bench.adapters.generation_config import unsupported_fields, unused_fields
from hpc_bench.adapters.loading import check_kwargs, load_pretrained
from hpc_bench.adapters.prompt import Prompt, PromptKey, Prompts, prompt_key, shared_length
from hpc_bench.attention.base import AttentionConfig, Masker
from hpc_bench.attention.model_shape import positions_of_config, shape_of_config
from hpc_bench.errors import unknown_name
from hpc_bench.values import Answer, Generation, Json, ModelOptions, PromptForm, Sample, Truncation

if TYPE_CHECKING:
    from torch import Tensor

    from hpc_bench.adapters.sparse.state import Memos, SparseState

__all__ = ["HuggingFaceAdapter"]


@dataclass(frozen=True)
class _ReadContext:
    """The state of a Prefill."""

    ids: list[int]
    """What was read: the beginning of the prompts of all samples that it was made for."""
    prompts: Mapping[PromptKey, Prompt]
    """Those prompts."""
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
        self._own_generation = model.generation_config.to_dict() if model.generation_config else {}
        self._unused = unused_fields(self._own_generation, from_model=options.from_model)

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
        if options.from_model:
            _refuse_unsupported(options.source, model.generation_config)
        return cls(model, tokenizer, options)

    def count_tokens(self, text: str) -> int:
        """Tokens of `text` with the model's tokenizer, special tokens left out."""
        return len(self._prompts.encode(text))

    def prompt_tokens(self, sample: Sample) -> int:
        """Tokens of the sample's whole prompt, special tokens and chat template included."""
        return len(self._prompts.prompt(sample).ids)

    def cut(self, sample: Sample, limit: int, truncation: Truncation) -> Sample:
        """Counts and cuts with the model's tokenizer."""
        return self._prompts.cut(sample, limit, truncation)

    def prefill(self, samples: Sequence[Sample], attentions: Sequence[AttentionConfig] = ()) -> Prefill:
        """Keeps the keys and values of what is shared, and what the maskers of `attentions` note of them."""
        if len({(sample.context, sample.chat) for sample in samples}) != 1:
            raise ValueError("a prefill is for samples about one context, all with or all without chat template")
        prompts = {prompt_key(sample): self._prompts.prompt(sample) for sample in samples}
        shared = shared_length(list(prompts.values()))
        return self._read(next(iter(prompts.values())).ids[:shared], prompts, attentions)

    def _read(
        self, ids: list[int], prompts: Mapping[PromptKey, Prompt], attentions: Sequence[AttentionConfig]
    ) -> Prefill:

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
        read = _ReadContext(ids, prompts, cache, state.memos if state else {}, notes_s, sparse, density)
        return Prefill(read, len(ids), seconds)

    def answer(self, prefill: Prefill, sample: Sample, attention: AttentionConfig, generation: Generation) -> Answer:
        """Feeds what is left of the prompt and decodes on a fork of the prefill's cache, from the seam on under
        `attention`.
        """
        import torch

        from hpc_bench.adapters.sparse.passes import fork_cache

        prompt = _prompt_of(prefill.state, sample, attention)
        self._check_length(len(prompt.ids), generation.limit(sample.max_new_tokens))
        unshared = prompt.seam - len(prefill.state.ids)
        if unshared and any(masker.prepared_by_prefill for masker in attention.chain):
            # These choose by the whole context at once, where it ends for this sample.
            prefill = self._read(prompt.ids[: prompt.seam], {}, [attention])
        context: _ReadContext = prefill.state
        decoder = Decoder(self._tokenizer, self._eos, sample, generation, self._own_generation)
        started = self._now()
        with torch.inference_mode():
            cache = fork_cache(context.cache)
            state, fed = self._begin_answer(context, cache, prompt, sample, attention)
            ids = decoder.decode(partial(self._forward, cache, state), prompt.ids[:fed], prompt.ids[fed:])
        return Answer(
            text=self._prompts.opened_thought(chat=sample.chat) + decoder.text(ids),
            tokens_in=len(prompt.ids),
            tokens_out=len(ids),
            cut_tokens=sample.cut_tokens,
            seconds=self._now() - started - (state.untimed_s if state else 0.0),
            prefill_s=prefill.seconds
            + sum(context.notes_s.get(masker, 0.0) for masker in dict.fromkeys(attention.chain)),
            density=state.density() if state else 1.0,
            layer_density=state.layer_density() if state else (),
            prefill_density=context.density,
            attention_error=state.error() if state else None,
            unshared_tokens=unshared,
        )

    def _begin_answer(
        self, context: _ReadContext, cache: Any, prompt: Prompt, sample: Sample, attention: AttentionConfig
    ) -> tuple[SparseState | None, int]:
        """The state of an answer's passes, and how many of the prompt's ids have been fed when they begin: a sparse
        config leaves what is before the seam to the attention of the prefill.
        """
        from hpc_bench.adapters.sparse.state import SparseState

        shared = len(context.ids)
        if not attention.chain:
            return None, shared
        memos = context.memos
        if shared < prompt.seam:
            reading = _prefill_state([attention], context.sparse, context)
            self._forward(cache, reading, prompt.ids[shared : prompt.seam])
            memos = reading.memos if reading else memos
        answering = SparseState(
            attention.chain,
            memos=memos,
            position=prompt.seam,
            measure_error=attention.measure_error,
            measure_seed=sample.sample_id,
        )
        return answering, prompt.seam

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

        prompt = self._prompts.prompt(sample)
        check_attention_path(self._passes, prompt.ids[: prompt.seam], prompt.ids[prompt.seam :])

    def selections(self, context: str, question: str, attention: AttentionConfig) -> dict[int, Tensor]:
        """For each layer the probabilities with which keys are kept, float32 [heads, queries, keys] and NaN where
        they are hidden, for the queries of `question` behind `context`; of both, with `sparse_prefill`.
        """
        from hpc_bench.adapters.sparse.selections import record_selections

        self.check_attention(attention)
        sample = Sample("", context, question, (), 0, chat=False, form=PromptForm(encode="parts"))
        prompt = self._prompts.prompt(sample)
        self._check_length(len(prompt.ids), 0)
        return record_selections(self._passes, prompt.ids[: prompt.seam], prompt.ids[prompt.seam :], attention)

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
            "unused_generation_config": self._unused,
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


def _refuse_unsupported(name: str, generation_config: Any) -> None:
    if lacking := unsupported_fields(generation_config.to_dict()):
        shown = ", ".join(f"{field}: {value}" for field, value in lacking.items())
        raise AdapterError(
            f"the generation_config of {name} sets {shown}, which is not supported; leave out "
            "generation_kwargs.from_model"
        )


def _sparse_prefill(attentions: Sequence[AttentionConfig]) -> AttentionConfig | None:
    sparse = [attention for attention in attentions if attention.sparse_prefill]
    if sparse and len(attentions) > 1:
        raise ValueError("a config with sparse_prefill needs a prefill of its own")
    return sparse[0] if sparse else None


def _prefill_state(
    attentions: Sequence[AttentionConfig], sparse: AttentionConfig | None, before: _ReadContext | None = None
) -> SparseState | None:
    """The state of passes over a context, which go on `before`, if that is given."""
    from hpc_bench.adapters.sparse.state import SparseState

    memos, position = (before.memos, len(before.ids)) if before else ({}, 0)
    if sparse:
        return SparseState(sparse.chain, memos=memos, position=position)
    maskers = dict.fromkeys(masker for attention in attentions for masker in attention.chain)
    noting = tuple(masker for masker in maskers if masker.takes_notes)
    return SparseState(noting, memos=memos, position=position, is_dense=True) if noting else None


def _prompt_of(context: _ReadContext, sample: Sample, attention: AttentionConfig) -> Prompt:
    """The sample's prompt; ValueError if the prefill was made for something else, AdapterError if nothing is asked."""
    prompt = context.prompts.get(prompt_key(sample))
    if prompt is None:
        raise ValueError(f"the prefill was not made for sample {sample.sample_id}")
    noted = {masker for _, _, masker in context.memos}
    missing = [masker for masker in attention.chain if masker.prepared_by_prefill and masker not in noted]
    if context.sparse != (attention if attention.sparse_prefill else None) or (missing and context.ids):
        raise ValueError(f"the prefill of sample {sample.sample_id} was not made for this attention config")
    if prompt.seam == len(prompt.ids):
        raise AdapterError(f"the question of sample {sample.sample_id} is empty, with its answer prefix")
    return prompt
