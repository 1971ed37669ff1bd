"""The build document: what one build brings to a render (``latent-engine schema build``).

A document is made of a build that starts, where all is known, or of the bare properties with which Buildbot asks whether a
running instance can take a build: :data:`UNKNOWN` says what is not in it then.

JSON cannot hold all that a property can. None, booleans, numbers, texts, lists and maps go as they are; a tuple as a list,
a set as a sorted list, bytes as UTF-8, a date as ISO 8601, an integer beyond 64 bits as text, a map's key as text. What is
none of these (an object, NaN, something nested deeper than :data:`DEPTH`) is left out: a definition that reads it says that
it is missing.
"""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Iterable, Mapping
from typing import Any, Optional

DEPTH = 32

#: What a worker may read that is not known before its build starts, as the engine names it; a name stands for all below.
UNKNOWN = (
    "build.id",
    "build.number",
    "build.reason",
    "build.url",
    "build.files",
    "build.owners",
    "src",
    "props.buildnumber",
    "props.branch",
    "props.revision",
    "props.repository",
    "props.codebase",
    "props.project",
    "props.owners",
)

Document = dict[str, Any]


class _Unfit(Exception):
    """A value that JSON cannot hold."""


def plain(value: Any) -> Any:
    """Give value as JSON holds it; ValueError where it cannot."""
    try:
        return _plain(value, DEPTH)
    except _Unfit:
        raise ValueError(f"a {type(value).__name__} does not fit into JSON") from None


def _plain(value: Any, depth: int) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int(value) if -(2**63) <= value < 2**63 else str(int(value))
    if isinstance(value, float):
        if not math.isfinite(value):
            raise _Unfit
        return float(value)
    if isinstance(value, (str, bytes, bytearray)):
        return text(value)
    if isinstance(value, (datetime.datetime, datetime.date)):
        return value.isoformat()
    if depth == 0:
        raise _Unfit
    if isinstance(value, Mapping):
        return {text(k): _plain(v, depth - 1) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v, depth - 1) for v in value]
    if isinstance(value, (set, frozenset)):
        return sorted((_plain(v, depth - 1) for v in value), key=lambda v: json.dumps(v, sort_keys=True))
    raise _Unfit


def text(value: Any) -> str:
    """Give value as text that UTF-8 can hold; "" for None."""
    if value is None:
        return ""
    if isinstance(value, (bytes, bytearray)):
        return bytes(value).decode("utf-8", "replace")
    return str(value).encode("utf-8", "replace").decode("utf-8")


def _texts(values: Iterable[Any]) -> list[str]:
    return list(dict.fromkeys(text(v) for v in values if v is not None))


def _properties(properties: Any) -> tuple[dict[str, list[Any]], list[str]]:
    out: dict[str, list[Any]] = {}
    left_out: list[str] = []
    for name, (value, source) in properties.asDict().items():
        try:
            out[text(name)] = [plain(value), text(source)]
        except ValueError:
            left_out.append(text(name))
    return out, left_out


def _info(info: Any) -> dict[str, str]:
    return {text(name): text(value) for name, (value, _) in info.asDict().items() if value is not None}


def of_properties(properties: Any, tags: Iterable[Any], info: Any) -> tuple[Document, list[str]]:
    """Make the document of a build of which only properties are known, and the names of properties that were left out."""
    props, left_out = _properties(properties)
    builder = props.get("buildername", ["", ""])[0]
    return {
        "version": 1,
        "properties": props,
        "build": {"builder": text(builder), "tags": _texts(tags)},
        "worker": {"info": _info(info)},
    }, left_out


def of_build(build: Any, url: str, info: Any) -> tuple[Document, list[str]]:
    """Make the document of a build that starts, and the names of properties that were left out."""
    config = getattr(build.builder, "config", None)
    document, left_out = of_properties(build.getProperties(), getattr(config, "tags", None) or (), info)
    about = document["build"]
    about["builder"] = text(build.builder.name)
    about["reason"] = text(build.reason)
    about["url"] = url
    about["files"] = _texts(build.allFiles())
    about["owners"] = _texts(build.blamelist())
    for key, number in (("id", build.buildid), ("number", build.number)):
        if number is not None:
            about[key] = int(number)
    document["sourcestamps"] = [_stamp(s) for s in build.getAllSourceStamps()]
    return document, left_out


def _stamp(stamp: Any) -> dict[str, Optional[str]]:
    def optional(value: Any) -> Optional[str]:
        return None if value is None else text(value)

    return {
        "codebase": text(stamp.codebase),
        "branch": optional(stamp.branch),
        "revision": optional(stamp.revision),
        "repository": text(stamp.repository),
        "project": text(stamp.project),
    }


def encode(document: Document) -> bytes:
    """Give the document's JSON: the same bytes for equal documents."""
    return json.dumps(document, sort_keys=True, allow_nan=False, separators=(",", ":")).encode("ascii")


def reads_unknown(reads: Iterable[str]) -> list[str]:
    """Give those of the paths that a worker reads which are not known before a build starts."""
    out = []
    for path in reads:
        names = path.replace("[", ".").replace('"', "").replace("]", "")
        for unknown in UNKNOWN:
            if names == unknown or names.startswith(unknown + ".") or unknown.startswith(names + "."):
                out.append(path)
                break
    return out
