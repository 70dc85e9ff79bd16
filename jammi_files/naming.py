"""The names of results and of the objects that belong to one result."""

from __future__ import annotations

import hashlib
import re
import uuid

from jammi_files.schema import ModelTask
from jammi_files.timestamps import CLOCK, format_timestamp
from jammi_files.validation import LONGEST_TABLE_NAME, require_text

DATA_SUFFIX = ".parquet"
SIDECAR_SUFFIX = ".materialization.json"
SIGNATURE_SUFFIX = ".intoto.jsonl"
"""As in-toto names a bundle of attestations: a line for each envelope, here one."""

INDEX_SUFFIX = ".idx"
INDEX_SIBLINGS = (".usearch", ".rowmap", ".manifest.json")
"""The ANN index files that jammi-db keeps beside a table (`B047`)."""

SIBLINGS = (SIGNATURE_SUFFIX, SIDECAR_SUFFIX, *INDEX_SIBLINGS)
"""What may lie beside the data object of a result."""

_SANITISED = str.maketrans("/: .", "____")
_UNSAFE = re.compile(r"[/\\\x00-\x1f\x7f-\x9f]|^\.|\.(?=\.)|(?<=\.)\.")
_GENERATED = re.compile(r"__\d{8}T\d{15}_[0-9a-f]{8}\Z", re.ASCII)
_LONGEST_MODEL = 64


def new_table_name(source_id: str, task: ModelTask, model_id: str) -> str:
    """Return a fresh ``{source}__{task}__{model}__{instant}_{suffix}`` (`B038` to `B044`).

    What a file name cannot hold of the source is percent-encoded (`B051`), and a source or model
    too long for 255 bytes is cut and closed with a hash (`B053`); the row keeps both verbatim.
    """
    tail = _fresh_tail()
    source = _encoded(require_text("source_id", source_id))
    model = _encoded(sanitise_model(require_text("model_id", model_id)))
    model = _shortened(model, _LONGEST_MODEL * 2)
    middle = f"__{task.value}__{model}"
    room = LONGEST_TABLE_NAME - len((middle + tail).encode())
    return f"{_shortened(source, room)}{middle}{tail}"


def other_stem(table_name: str) -> str:
    """Return what the objects of a table may be called whose own name is in use for others.

    Nothing has ever had that name, and it is as recognisable as that of `new_table_name`.
    """
    tail, kept = _fresh_tail(), _GENERATED.sub("", table_name)
    return f"{_shortened(kept, LONGEST_TABLE_NAME - len(tail))}{tail}"


def sanitise_model(model_id: str) -> str:
    """Replace ``/``, ``:``, blank and ``.`` by ``_`` and keep 64 characters (`B041`, `B042`)."""
    return model_id.translate(_SANITISED)[:_LONGEST_MODEL]


def sibling(parquet_path: str, suffix: str) -> str:
    """Return the path of the object beside a data object that has another suffix (`B045`).

    Only ``.parquet`` is taken off: a dot in the name truncates nothing (`B052`).
    """
    return parquet_path.removesuffix(DATA_SUFFIX) + suffix


def beside(parquet_path: str) -> frozenset[str]:
    """Return the paths of a data object that may be, or lie beside, the same objects as this one.

    A row may name any object as its data: the sidecar of another's, or it without ``.parquet``.
    """
    suffixes = (DATA_SUFFIX, *SIBLINGS)
    end = next((each for each in suffixes if parquet_path.endswith(each)), "")
    stem = parquet_path.removesuffix(end)
    return frozenset(stem + each for each in ("", *suffixes))


def _encoded(text: str) -> str:
    return _UNSAFE.sub(lambda match: "".join(f"%{byte:02X}" for byte in match[0].encode()), text)


def _fresh_tail() -> str:
    instant = format_timestamp(CLOCK.now()).translate({ord(mark): None for mark in "-:.Z"})
    return f"__{instant}_{uuid.uuid4().hex[:8]}"


def _shortened(text: str, limit: int) -> str:
    if len(text.encode()) <= limit:
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    kept = text.encode()[: limit - len(digest) - 1].decode(errors="ignore")
    return f"{kept}~{digest}"


def is_generated(table_name: str) -> bool:
    """Say whether a name ends as those of `new_table_name` do: it occurs nowhere by chance."""
    return _GENERATED.search(table_name) is not None
