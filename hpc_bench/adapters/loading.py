"""Loads a model and its tokenizer with transformers, and refuses what would run otherwise than it was asked to."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from hpc_bench.adapters.base import AdapterError
from hpc_bench.errors import unknown_name
from hpc_bench.values import Json, ModelOptions

__all__ = ["check_kwargs", "load_pretrained"]

_OURS = {
    "attn_implementation": "the attention is swapped by the sweep's attention configs",
    "device_map": "the device is chosen by `device` and the number of GPUs",
    "revision": "it has a key of its own in the sweep",
    "trust_remote_code": "it has a key of its own in the sweep",
}
_FOLDERS = ("cache_dir", "offload_folder")
"""Options of from_pretrained that name folders, which it makes as they are written."""
_DTYPES = ("auto", "bfloat16", "float16", "float32", "float64")
_UNSUPPORTED = "has an attention that transformers' SDPA interface cannot stand in for, so it cannot be made sparse"


def check_kwargs(options: ModelOptions) -> None:
    """ValueError where model_kwargs or tokenizer_kwargs hold what is not theirs to say."""
    _refuse("model_kwargs", options.model_kwargs, _OURS)
    _refuse("tokenizer_kwargs", options.tokenizer_kwargs, ("revision", "trust_remote_code"))
    _dtype(options.model_kwargs)


def _refuse(what: str, kwargs: Mapping[str, Json], ours: Iterable[str]) -> None:
    for key in kwargs:
        if key in ours:
            raise ValueError(f"{what}.{key} cannot be set: {_OURS[key]}")
        value = kwargs[key]
        if key in _FOLDERS and isinstance(value, str) and ("$" in value or value.startswith("~")):
            raise ValueError(f"{what}.{key} cannot be {value!r}: variables and ~ are not replaced; write the path out")


def _dtype(kwargs: Mapping[str, Json]) -> str | None:
    """The dtype asked for under its present or its older name; None if neither is there."""
    if "dtype" in kwargs and "torch_dtype" in kwargs:
        raise ValueError("model_kwargs has both dtype and torch_dtype, which mean the same; keep dtype")
    value = kwargs.get("dtype", kwargs.get("torch_dtype"))
    if value is None:
        return None
    name = str(value).removeprefix("torch.")
    if name not in _DTYPES:
        raise ValueError(unknown_name("dtype", value, _DTYPES))
    return name


def load_pretrained(options: ModelOptions, device: str) -> tuple[Any, Any]:
    """Tokenizer and model on `device`; AdapterError names what is wrong, out-of-memory errors pass unchanged."""
    import torch

    from hpc_bench.adapters.sparse import attention_interface

    attention_interface.register()
    try:
        _check_architecture(options, attention_interface.NAME)
        tokenizer, model = _from_pretrained(options, device, attention_interface.NAME)
    except (AdapterError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # whatever the hub, a config file or remote code raises, the cause is the model
        raise AdapterError(f"{options.source} cannot be loaded: {type(error).__name__}: {error}") from error
    _check_attention(model, attention_interface.NAME)
    _check_placement(model)
    return tokenizer, model.eval()


def _check_architecture(options: ModelOptions, attention: str) -> None:
    """AdapterError, before any weights are fetched or read, where the model's code could not use our attention."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.initialization import meta_device_safe_creation_ops

    kwargs = {key: value for key, value in _loading_kwargs(options).items() if key != "quantization_config"}
    config = AutoConfig.from_pretrained(options.source, **_common(options), **kwargs)
    try:
        with torch.device("meta"), meta_device_safe_creation_ops():  # as from_pretrained builds it, without weights
            model = AutoModelForCausalLM.from_config(
                config,
                attn_implementation=attention,
                trust_remote_code=options.trust_remote_code,
                **_remote_code(options, config),
            )
    except KeyError as error:
        if error.args != (attention,):
            raise
        # Some architectures choose their attention from a table of their own.
        name = ", ".join(getattr(config, "architectures", None) or (config.model_type,))
        raise AdapterError(f"{name} {_UNSUPPORTED}") from error
    _check_attention(model, attention)
    _check_pass(model)


def _check_pass(model: Any) -> None:
    """AdapterError where a pass without weights shows that the model's attention would not be given its maskers."""
    import torch
    from transformers import DynamicCache

    from hpc_bench.adapters.sparse.passes import check_attention_is_reached
    from hpc_bench.adapters.sparse.state import SparseState

    state, inputs = SparseState((), is_dense=True), torch.zeros(1, 2, dtype=torch.long, device="meta")
    state.begin_pass(inputs.shape[1])
    try:
        with torch.inference_mode():
            cache = DynamicCache(config=model.config)
            model.eval()(input_ids=inputs, past_key_values=cache, use_cache=True, sparse_state=state)
    except AdapterError:
        raise
    except Exception:  # some layers cannot do without numbers, each with an error of its own; the first real pass tells
        return
    check_attention_is_reached(model, state)


def _remote_code(options: ModelOptions, config: Any) -> dict[str, Any]:
    """What from_config must be told so that it takes a model's own code from where from_pretrained will take it."""
    reference = (getattr(config, "auto_map", None) or {}).get("AutoModelForCausalLM")
    if not (options.trust_remote_code and reference):
        return {}
    repository = reference.split("--")[0] if "--" in reference else options.source
    pinned = options.revision if repository == options.source else None
    return {"code_revision": options.model_kwargs.get("code_revision") or pinned}


def _from_pretrained(options: ModelOptions, device: str, attention: str) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    common, kwargs = _common(options), _loading_kwargs(options)
    if device == "cuda":
        kwargs["device_map"] = "auto" if options.gpus > 1 else "cuda:0"
    tokenizer = AutoTokenizer.from_pretrained(options.source, **common, **options.tokenizer_kwargs)
    model = AutoModelForCausalLM.from_pretrained(
        options.source,
        dtype=_dtype(options.model_kwargs) or "auto",
        attn_implementation=attention,
        **common,
        **kwargs,
    )
    return tokenizer, model


def _common(options: ModelOptions) -> dict[str, Any]:
    return {"revision": options.revision, "trust_remote_code": options.trust_remote_code}


def _loading_kwargs(options: ModelOptions) -> dict[str, Any]:
    return {key: value for key, value in options.model_kwargs.items() if key not in ("dtype", "torch_dtype")}


def _check_attention(model: Any, attention: str) -> None:
    """AdapterError where transformers only warns, or says nothing, and keeps the model's own attention."""
    used = {model.config._attn_implementation, model.config.get_text_config()._attn_implementation}
    # A model that SDPA cannot serve (attention sinks, scores of its own) would be wrong under the dense chain too.
    served = model._supports_sdpa or _lacks_sdpa_for_capped_scores(type(model))
    if used != {attention} or not model._can_set_attn_implementation() or not served:
        raise AdapterError(f"{type(model).__name__} {_UNSUPPORTED}")


def _lacks_sdpa_for_capped_scores(cls: type[Any]) -> bool:
    """Whether a model's code hands the cap of its scores to its attention, which ours heeds and SDPA cannot.

    Looked up in the source, as transformers does in _can_set_attn_implementation: no flag tells.
    """
    try:
        code = inspect.getsource(sys.modules[cls.__module__])
    except (KeyError, OSError, TypeError):
        return False
    return "softcap=self." in code and "s_aux" not in code


def _check_placement(model: Any) -> None:
    places = {str(place) for place in getattr(model, "hf_device_map", {}).values()}
    spilled = sorted(places & {"cpu", "disk"})
    if spilled and model.device.type == "cuda":
        name = type(model).__name__
        raise AdapterError(f"{name} does not fit on its GPUs: parts of it were put on {', '.join(spilled)}")
