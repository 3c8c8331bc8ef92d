"""Says at the end how many inputs each parser got, and what became of them."""

from __future__ import annotations

import pytest

from tests.fuzz.inputs import INPUTS, TALLY


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if INPUTS < 1000:
        return
    terminalreporter.section("inputs")
    for name, tally in TALLY.items():
        fates = ", ".join(f"{count} {fate}" for fate, count in tally.most_common())
        terminalreporter.line(f"{name}: {tally.total()} ({fates})")
    terminalreporter.line(f"together {sum(tally.total() for tally in TALLY.values())}")
