"""Secrets never reach a file: what is named or shaped like one is refused in a sweep, and blacked out in messages."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hpc_bench.errors import SweepError

__all__ = ["is_secret_key", "redact", "redact_command", "refuse_secrets"]

_HUB_KEYS = frozenset(
    (
        *("access_token", "auth_token", "hf_api_token", "hf_token", "hub_token", "hugging_face_hub_token"),
        *("huggingface_token", "token", "use_auth_token"),
    )
)
_KEYS = _HUB_KEYS | frozenset(
    (
        *("api_key", "api_token", "apikey", "authorization", "bearer_token", "client_secret", "cookie", "credentials"),
        *("passphrase", "passwd", "password", "private_key", "proxy_authorization", "secret", "secret_access_key"),
        *("secret_key", "x_api_key"),
    )
)
"""Matched as whole keys, because eos_token, max_new_tokens and tokenizer_kwargs are not secrets."""
_VARIABLE = re.compile(r"(.*_)?(TOKEN|SECRET|CREDENTIALS)|.*(PASSWORD|PASSWD|PASSPHRASE|API_?KEY|(ACCESS|SECRET)_KEY)")
_HUB_TOKEN = re.compile(r"(?<![A-Za-z0-9_])(hf_|api_org_)[A-Za-z0-9]{20,}")
_TOKEN = re.compile(
    r"(?<![\w-])(sk-(?=[\w-]{0,200}[A-Za-z0-9]{16})|gh[opsur]_|github_pat_|glpat-|xox[abprs]-)[\w-]{16,}"
)
_LOGIN = re.compile(
    r"""((?:://|_proxy=["']?)[^\s/@:"']{0,200}:)(?!\d{1,5}(?:[/?#\s]|$)|\$)[^\s"'<>]{1,200}@""", re.IGNORECASE
)
"""user:password@ in an address, and no port."""
_HEADER = re.compile(r"""(authorization["']?\s?[:=]\s?["']?(?:bearer|basic|token)\s{1,9})(?![$"'])[^\s"',]+""", re.I)
_SHAPES = ((_HUB_TOKEN, r"\1***"), (_TOKEN, r"\1***"), (_LOGIN, r"\1***@"), (_HEADER, r"\1***"))
_ASSIGNMENT = re.compile(
    r"""(?<![\w$])(export\s{1,9}|declare\s-x\s)?([A-Za-z_]\w{0,100})=("?[^\s"'$`;&|)]|'[^'])""", re.ASCII
)
_OPTION = re.compile(r"""(?<![\w-])(--[A-Za-z][\w-]{0,60})(?:=|\s{1,9})["']?[^\s"'$`;&|-]""")
_BLACK = "***"
_STORED = "and sweeps are stored where others may read them"
_WHERE = "in the shell that you submit from, whose variables the workers inherit"


def redact(text: str) -> str:
    """The text without what is shaped like a secret in it."""
    for shape, left in _SHAPES:
        text = shape.sub(left, text)
    return text


def redact_command(words: Sequence[str]) -> list[str]:
    """A command line without secrets, those behind an option such as --token included."""
    shown, hides_next = [], False
    for word in words:
        name, sign, value = word.partition("=")
        is_option = name.startswith("-")
        is_secret = is_secret_key(name.lstrip("-"))
        if hides_next and not is_option:
            shown.append(_BLACK)
        elif is_secret and sign and value:
            shown.append(f"{name}={_BLACK}")
        else:
            shown.append(redact(word))
        hides_next = is_option and is_secret and not sign
    return shown


def is_secret_key(key: str) -> bool:
    """Whether what stands under a key, in whatever spelling, or in a variable of this name, is a secret."""
    return _plain(key) in _KEYS or (key.isupper() and bool(_VARIABLE.fullmatch(key)))


def _plain(key: str) -> str:
    """hubToken and HUB-TOKEN are hub_token."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|-", "_", key.strip()).lower()


def refuse_secrets(data: Any) -> None:
    """SweepError if there is a secret at any depth; it names the key and what to do, and never the secret."""
    for path, key, value in _entries(data):
        if isinstance(key, str):
            if said := _complaint(key):
                raise SweepError(f"has a key that {said}", *path)
            if is_secret_key(key) and _is_given(value):
                raise SweepError(f"is a secret, {_STORED}; {_remedy(key)}", *path, key)
        if isinstance(value, str) and (said := _complaint(value)):
            raise SweepError(said, *path, str(key))


def _entries(data: Any) -> Iterator[tuple[tuple[str, ...], Any, Any]]:
    """Every value with the keys above it and its own; a list may hold itself, and be deeper than Python can call."""
    left: list[tuple[tuple[str, ...], Any]] = [((), data)]
    seen: set[int] = set()
    while left:
        path, holder = left.pop()
        if id(holder) in seen:
            continue
        seen.add(id(holder))
        for key, value in holder.items() if isinstance(holder, Mapping) else enumerate(holder):
            yield path, key, value
            if isinstance(value, (Mapping, list, tuple)):
                left.append(((*path, str(key)), value))


def _is_given(value: Any) -> bool:
    """Configs and benchmarks may have any name: nothing, a mapping, or a list of mappings stands under theirs."""
    if isinstance(value, (list, tuple)):
        return any(value is not None and not isinstance(value, (Mapping, list, tuple)) for value in value)
    return value is not None and not isinstance(value, Mapping)


def _complaint(text: str) -> str:
    """What is wrong with a text that holds a secret, and the remedy; empty if it holds none."""
    if _HUB_TOKEN.search(text):
        return f"holds what looks like a token of the hub, {_STORED}; {_remedy('hf_token')}"
    if _TOKEN.search(text) or _HEADER.search(text):
        return f"holds what looks like an access token, {_STORED}; {_remedy('')}"
    if _LOGIN.search(text):
        return f"holds an address with a password, {_STORED}; leave it out, and set HTTPS_PROXY for a proxy {_WHERE}"
    for exported, name, _ in _ASSIGNMENT.findall(text):
        if is_secret_key(name.upper() if exported else name) and (exported or name.isupper()):
            return f"gives {name} a value, {_STORED}; set {name} {_WHERE}, or write {name}=$(cat FILE)"
    for name in _OPTION.findall(text):
        if is_secret_key(name[2:]):
            return f"gives {name} a value, {_STORED}; set a variable such as HF_TOKEN {_WHERE}, and name it there"
    return ""


def _remedy(key: str) -> str:
    """A key of the hub's libraries is replaced by their variable, any other one by that of its own library."""
    if _plain(key) in _HUB_KEYS:
        return f"leave it out, and set HF_TOKEN {_WHERE}"
    return f"leave it out, and set the variable that its library reads, as the hub's reads HF_TOKEN, {_WHERE}"
