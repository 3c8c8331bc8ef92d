"""Nothing leaves the machine: no library keeps a list of what it would send."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize(
    "modules", ["tts_service, voices.piper", "whisper_live.server, whisper_live.smart_turn"]
)
def test_onnxruntime_prepares_no_telemetry(modules: str, tmp_path: Path) -> None:
    """It makes a device id and a database beside the caches where it means to send anything."""
    told = {name: value for name, value in os.environ.items() if not name.startswith("ORT_")}
    subprocess.run(
        [sys.executable, "-c", f"import {modules}"],
        cwd=ROOT,
        env={**told, "HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)},
        timeout=60,
        check=True,
    )
    assert list(tmp_path.iterdir()) == []
