"""Which files of a repository on the hub a run reads: a model's own weights and tokenizer, a data set's split."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import Any

__all__ = ["CARD", "DEFAULT", "data_files", "lacking_parts", "model_files"]

CARD = "README.md"
DEFAULT = "default"
"""The name of the one configuration of a data set that names none."""
_TEMPLATES = "additional_chat_templates"
_SUFFIXES = (".bpe", ".codes", ".jinja", ".json", ".model", ".py", ".spm", ".tiktoken", ".txt", ".vocab")
"""Configuration, tokenizers, chat templates and remote code; weights are chosen one format at a time."""
_WEIGHTS = (
    ("model.safetensors",),
    ("model.safetensors.index.json", "model-*.safetensors"),
    ("pytorch_model.bin",),
    ("pytorch_model.bin.index.json", "pytorch_model-*.bin"),
)
"""In the order in which transformers looks for them (modeling_utils, `_get_resolved_checkpoint_files`)."""
_TOKENIZERS = ("*.tiktoken", "sentencepiece*", "spiece.model", "tekken.json", "tokenizer*", "vocab*")


def model_files(paths: Iterable[str]) -> list[str]:
    """What transformers reads of a model: no second format of its weights, nothing in folders of their own."""
    top = [path for path in paths if "/" not in path]
    templates = [path for path in paths if path.startswith(f"{_TEMPLATES}/")]
    # An index of another format would ask for weights that are not wanted.
    others = [path for path in top if path.endswith(_SUFFIXES) and not path.endswith(".index.json")]
    return sorted({*others, *templates, *_weights(top)})


def _weights(top: Sequence[str]) -> list[str]:
    for first, *shards in _WEIGHTS:
        if first in top:
            return [first, *(path for path in top if any(fnmatchcase(path, shard) for shard in shards))]
    return []


def lacking_parts(files: Sequence[str]) -> list[str]:
    """What a model cannot do without and is not among its files, in words."""
    lacking = [] if "config.json" in files else ["config.json"]
    if not any(fnmatchcase(path, pattern) for path in files for pattern in _TOKENIZERS):
        lacking.append("a tokenizer")
    if not _weights(files):
        lacking.append("weights (model*.safetensors or pytorch_model*.bin)")
    return lacking


def data_files(paths: Iterable[str], card: Mapping[str, Any], config: str, split: str = "test") -> list[str]:
    """The files of a configuration's split, as the card says, else those called like the split in the folder `config`;
    of a data set without configurations, in its data folder or at its top, or whatever tables lie there.
    """
    known = list(paths)
    places = [f"{config}/"] if config != DEFAULT else ["", "data/"]
    guesses = [[f"{place}{split}[-.]*" for place in places]]
    guesses += [["*.parquet", "*.jsonl"]] if config == DEFAULT else []
    for patterns in (_patterns(card, config, split), *guesses):
        found = sorted(path for path in known if any(_matches(path, pattern) for pattern in patterns))
        if found:
            return found
    return []


def _patterns(card: Mapping[str, Any], config: str, split: str) -> list[str]:
    """From the card's `configs`, written by hand or by `push_to_hub`."""
    for item in card.get("configs") or ():
        if str(item.get("config_name")) != config:
            continue
        for part in item.get("data_files") or ():
            if isinstance(part, Mapping) and part.get("split") == split:
                found = part["path"]
                return [str(PurePosixPath(path)) for path in (found if isinstance(found, list) else [found])]
    return []


def _matches(path: str, pattern: str) -> bool:
    """As a shell matches: only ** crosses folders."""
    return fnmatchcase(path, pattern) and ("**" in pattern or path.count("/") == pattern.count("/"))
