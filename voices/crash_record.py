"""Which clauses ended the voice's process, for its successor to know.

A phonemizer or a GPU library that breaks over some text takes its process with it, and the one that
is started in its place is given the same text again. What is being spoken is written into a mapped
file first, which outlives a process however it dies: a clause that was being spoken at two deaths,
and never to its end in between, is spoken no more.

It holds no words, only what tells one clause from another.
"""

from __future__ import annotations

import hashlib
import mmap
import struct
import threading
from pathlib import Path

MOST_DEATHS = 2

_SLOT = struct.Struct("<8sBB")  # digest, deaths, how many speak it now
_SLOTS = 64
SIZE = _SLOTS * _SLOT.size


class CrashRecord:
    """The record in `memory`, `SIZE` bytes that were zero at first. Safe from any thread."""

    def __init__(self, memory: bytearray | mmap.mmap) -> None:
        self._memory = memory
        self._lock = threading.Lock()
        for place in range(_SLOTS):
            digest, deaths, speaking = self._read(place)
            if speaking:  # the last process died of it, or at the same moment
                self._write(place, digest, min(deaths + 1, 255), 0)

    @classmethod
    def open(cls, path: Path) -> CrashRecord:
        """The record in a file, made where there is none. Raises OSError."""
        with path.open("a+b") as file:
            file.truncate(SIZE)
            return cls(mmap.mmap(file.fileno(), SIZE))

    def begin(self, words: str) -> bool:
        """These words are about to be spoken; False if they must not be."""
        with self._lock:
            digest = _digest(words)
            place = self._find(digest)
            if place is None:
                return True  # more at once than anybody speaks
            _, deaths, speaking = self._read(place)
            if deaths >= MOST_DEATHS:
                return False
            self._write(place, digest, deaths, min(speaking + 1, 255))
            return True

    def end(self, words: str) -> None:
        """They were spoken, or given up; this process lives on."""
        with self._lock:
            digest = _digest(words)
            for place in range(_SLOTS):
                known, _, speaking = self._read(place)
                if known == digest and speaking:
                    again = speaking - 1
                    self._write(place, digest if again else bytes(8), 0, again)

    def _find(self, digest: bytes) -> int | None:
        """The slot of a clause, else a free one, else that of the one with the fewest deaths."""
        slots = [(self._read(place), place) for place in range(_SLOTS)]
        own = [place for (known, _, _), place in slots if known == digest]
        idle = sorted((deaths, place) for (_, deaths, speaking), place in slots if not speaking)
        return own[0] if own else idle[0][1] if idle else None

    def _read(self, place: int) -> tuple[bytes, int, int]:
        digest, deaths, speaking = _SLOT.unpack_from(self._memory, place * _SLOT.size)
        return digest, deaths, speaking

    def _write(self, place: int, digest: bytes, deaths: int, speaking: int) -> None:
        _SLOT.pack_into(self._memory, place * _SLOT.size, digest, deaths, speaking)


def _digest(words: str) -> bytes:
    return hashlib.blake2b(words.encode(), digest_size=8).digest()
