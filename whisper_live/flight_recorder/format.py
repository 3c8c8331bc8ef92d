"""The file of a recording: lines of JSON, some followed by sound. Pure.

A file is a sequence of entries, each appended whole. An entry is a line, one JSON object; where the
object has `bytes`, so many bytes of raw data and a newline follow. The first entry says what the
file is. Whatever ends a program leaves a file that ends in the middle of an entry at worst, so what
is cut off or damaged ends the recording and is no error.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from fusion.errors import FusionError

FORMAT = "whisperfusion recording"
VERSION = 1

_LONGEST_LINE = 1 << 22
_MOST_BYTES = 1 << 22
_BYTES = "bytes"


class RecordingError(FusionError):
    """A file is no recording, or one that this version cannot read."""

    exit_status = 2


@dataclass(frozen=True)
class Entry:
    """One entry: JSON values by name, and raw data beside them."""

    fields: dict[str, Any]
    data: bytes = b""


@dataclass
class Recording:
    """A recording that was read. `whole` is whether it ends as it should, with its last entry."""

    header: dict[str, Any]
    entries: list[Entry] = field(default_factory=list)
    whole: bool = False


def encode(entry: Entry) -> bytes:
    """An entry as it is appended to the file."""
    fields = entry.fields | ({_BYTES: len(entry.data)} if entry.data else {})
    line = json.dumps(fields, separators=(",", ":")).encode() + b"\n"
    return line + entry.data + b"\n" if entry.data else line


def decode(file: BinaryIO) -> Iterator[Entry]:
    """The entries of a file, up to where it ends, is cut off or is damaged."""
    while (entry := _next(file)) is not None:
        yield entry


def header(**fields: Any) -> Entry:
    """The first entry of a file."""
    return Entry({"format": FORMAT, "version": VERSION, **fields})


def read(file: BinaryIO) -> Recording:
    """A whole recording. Raises RecordingError for a file that is none, or of another version."""
    entries = list(decode(file))
    first = entries[0].fields if entries else {}
    if first.get("format") != FORMAT:
        raise RecordingError("It is no recording of WhisperFusion: its first line does not say so.")
    if first.get("version") != VERSION:
        raise RecordingError(
            f"It is a recording of version {first.get('version')}, and this program reads version "
            f"{VERSION}: replay it with the WhisperFusion that made it."
        )
    return Recording(first, entries[1:], whole="end" in entries[-1].fields)


def _next(file: BinaryIO) -> Entry | None:
    line = file.readline(_LONGEST_LINE)
    if not line.endswith(b"\n"):
        return None
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(fields, dict):
        return None
    size = fields.pop(_BYTES, 0)
    if size == 0:
        return Entry(fields)
    if not isinstance(size, int) or not 0 < size <= _MOST_BYTES:
        return None
    data = file.read(size + 1)
    return Entry(fields, data[:-1]) if len(data) == size + 1 and data.endswith(b"\n") else None
