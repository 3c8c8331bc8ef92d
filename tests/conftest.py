"""What several tests share."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.recorders import Host
from tests.running import RunningServer

# These import PyTorch, which `make test` does not install. `make test-torch` does, and selects
# them by their markers: where they are missing, nothing is left to run and that fails.
if importlib.util.find_spec("torch") is None:
    collect_ignore = ["test_transformers.py", "test_transformers_gpu.py"]


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
