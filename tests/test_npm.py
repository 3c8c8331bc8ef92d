"""Packages of the npm registry, fetched without npm from a registry of the tests' own."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from fusion.models import npm

ARCHIVE = os.urandom(5000)
SUM = "sha512-" + base64.b64encode(hashlib.sha512(ARCHIVE).digest()).decode()


@pytest.fixture
def answers() -> dict[str, bytes]:
    """What the registry has, by path."""
    return {"/voices-1.2.1.tgz": ARCHIVE}


@pytest.fixture
def address(answers: dict[str, bytes]) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = answers.get(self.path)
            self.send_response(200 if body is not None else 404)
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    dist = {"tarball": f"{url}/voices-1.2.1.tgz", "integrity": SUM}
    answers["/@someone/voices/1.2.1"] = json.dumps({"dist": dist}).encode()
    yield url
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("environment", "settings", "expected"),
    [
        ({}, "", npm.REGISTRY),
        (
            {"npm_config_registry": "https://mirror/npm/"},
            "registry=https://other",
            "https://mirror/npm",
        ),
        ({"NPM_CONFIG_REGISTRY": "https://mirror"}, "", "https://mirror"),
        ({"npm_config_registry": ""}, "fund=false\nregistry = https://other/\n", "https://other"),
        ({}, "@scope:registry=https://scoped\n; registry=https://comment\n", npm.REGISTRY),
    ],
)
def test_the_registry_is_that_of_npms_settings(
    environment: dict[str, str], settings: str, expected: str
) -> None:
    assert npm.registry(environment, settings) == expected


def test_a_package_comes_whole_under_npms_name(address: str, tmp_path: Path) -> None:
    archive = npm.fetch("@someone/voices@1.2.1", address, tmp_path)
    assert archive == tmp_path / "voices-1.2.1.tgz"
    assert archive.read_bytes() == ARCHIVE
    assert list(tmp_path.iterdir()) == [archive]


@pytest.mark.parametrize(
    "body",
    [b"[]", b"{}", b'{"dist": 5}', b'{"dist": {"tarball": "x"}}', b"<html>", b"\xff"],
)
def test_an_answer_that_is_none_is_an_error(
    address: str, answers: dict[str, bytes], body: bytes, tmp_path: Path
) -> None:
    answers["/@someone/voices/1.2.1"] = body
    with pytest.raises(ValueError):
        npm.fetch("@someone/voices@1.2.1", address, tmp_path)


def test_another_archive_is_not_taken(
    address: str, answers: dict[str, bytes], tmp_path: Path
) -> None:
    answers["/voices-1.2.1.tgz"] = ARCHIVE[:-1]
    with pytest.raises(ValueError, match="not the one"):
        npm.fetch("@someone/voices@1.2.1", address, tmp_path)
    assert not list(tmp_path.glob("*.tgz"))


@pytest.mark.parametrize(
    ("requirement", "status", "said"),
    [
        ("@someone/voices@1.2.1", 0, ""),
        ("@someone/voices@9", 1, "ERROR: the npm registry answers 404 Not Found\n"),
    ],
)
def test_as_a_command(
    address: str, tmp_path: Path, requirement: str, status: int, said: str
) -> None:
    """Where there is no npm at all."""
    environment = {"PATH": str(tmp_path), "HOME": str(tmp_path), "npm_config_registry": address}
    command = [sys.executable, str(Path(npm.__file__)), requirement]
    finished = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert (finished.returncode, finished.stderr) == (status, said)
    assert len(list(tmp_path.glob("*.tgz"))) == (status == 0)


def test_no_connection_is_said(tmp_path: Path) -> None:
    environment = {"HOME": str(tmp_path), "npm_config_registry": "http://127.0.0.1:9"}
    command = [sys.executable, str(Path(npm.__file__)), "voices@1"]
    finished = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert finished.stderr.startswith("ERROR: no connection to the npm registry (")
