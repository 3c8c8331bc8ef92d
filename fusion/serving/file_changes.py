"""Whether files that an operator renews (certificates, tokens) are others than before."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path


class FileChanges:
    """Looks at some files, without reading them. Not thread-safe."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self._paths = tuple(paths)
        self._seen = self._stamps()

    def look(self) -> bool:
        """Whether any of them has changed since the last look."""
        before, self._seen = self._seen, self._stamps()
        return self._seen != before

    def _stamps(self) -> list[tuple[int, int, int] | None]:
        """What changes with a file's content: its place, its time (ns), its size."""
        stamps: list[tuple[int, int, int] | None] = []
        for path in self._paths:
            stamp = None
            with contextlib.suppress(OSError):  # it is away while it is replaced
                found = path.stat()
                stamp = (found.st_ino, found.st_mtime_ns, found.st_size)
            stamps.append(stamp)
        return stamps
