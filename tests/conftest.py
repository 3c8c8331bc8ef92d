"""What several tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.running import RunningServer


@pytest.fixture(scope="session")
def server() -> Iterator[RunningServer]:
    """The real program with its default models, one for all tests that only talk to it."""
    with RunningServer() as running:
        yield running
