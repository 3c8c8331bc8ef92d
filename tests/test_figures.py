"""What benchmarks make of their measurements."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.figures import median, p95, report


def test_of_nothing_there_is_no_figure() -> None:
    assert (median([]), p95([])) == (None, None)


def test_the_order_does_not_matter() -> None:
    values = [*range(100, 0, -1)]
    assert (median(values), p95(values)) == (50.5, 96)
    assert p95([7]) == 7


def test_a_report_is_the_summary_with_each_measurement(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report({"median": 2}, [1, 2, 3], None)
    report({"median": 2}, [1, 2, 3], tmp_path / "report.json")
    assert json.loads((tmp_path / "report.json").read_text()) == {"median": 2, "each": [1, 2, 3]}
    assert capsys.readouterr().out == 2 * '{\n  "median": 2\n}\n'
