"""The real nginx with the configuration of docker/nginx, started on free ports for a test."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import time
from pathlib import Path

SOURCE = Path(__file__).resolve().parent.parent / "docker" / "nginx"
START_TIMEOUT = 10.0


def program() -> str:
    found = shutil.which("nginx") or shutil.which("/usr/sbin/nginx")
    assert found, "nginx is not installed: run `make system-packages`"
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Nginx:
    """What the official image's entry point makes of the templates, in a folder of its own."""

    def __init__(
        self,
        root: Path,
        page: Path,
        *,
        transcription_port: int,
        speech_port: int,
        server: str = "127.0.0.1",
    ) -> None:
        self.root = root
        self.port = free_port()
        self.tls_port = 0
        self.access_log = root / "access.log"
        self.values = {
            "PAGE": str(page),
            "PAGE_PORT": str(self.port),
            "SERVER": server,
            "TRANSCRIPTION_PORT": str(transcription_port),
            "SPEECH_PORT": str(speech_port),
            "NGINX_LOCAL_RESOLVERS": "127.0.0.1",
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._lay_out()

    def _lay_out(self) -> None:
        conf, temporary = self.root / "conf", self.root / "tmp"
        for folder in (conf / "conf.d", conf / "tls", temporary):
            folder.mkdir(parents=True)
        whole = (SOURCE / "nginx.conf").read_text()
        whole = whole.replace("/tmp/", f"{temporary}/").replace("/dev/stdout", str(self.access_log))
        # Workers that root starts become `nobody`, who cannot read a test's folder.
        user = "user root;\n" if os.geteuid() == 0 else ""
        (conf / "nginx.conf").write_text(user + whole)
        for name in ("headers.conf", "socket.conf"):
            shutil.copy(SOURCE / name, conf)
        shutil.copy("/etc/nginx/mime.types", conf)
        for template in (SOURCE / "templates").glob("*.template"):
            (conf / "conf.d" / template.stem).write_text(self._substitute(template.read_text()))

    def _substitute(self, text: str) -> str:
        """As envsubst with the filter of the compose file: these names alone, in braces."""
        names = "|".join(self.values)
        pattern = re.compile(r"\$\{(" + names + r")\}")
        return pattern.sub(lambda match: self.values[match[1]], text)

    def add_tls(self, certificate: Path, key: Path) -> None:
        self.tls_port = free_port()
        text = (SOURCE / "tls.conf").read_text()
        text = text.replace("8443", str(self.tls_port))
        text = text.replace("/etc/nginx/certificate/fullchain.pem", str(certificate))
        text = text.replace("/etc/nginx/certificate/privkey.pem", str(key))
        (self.root / "conf" / "tls" / "tls.conf").write_text(text)

    @property
    def command(self) -> list[str]:
        folder = f"{self.root}/conf"
        return [program(), "-p", folder, "-c", f"{folder}/nginx.conf", "-g", "daemon off;"]

    def start(self) -> None:
        with (self.root / "error.log").open("wb") as log:
            self._process = subprocess.Popen(self.command, stderr=log)
        deadline = time.monotonic() + START_TIMEOUT
        while time.monotonic() < deadline:
            assert self._process.poll() is None, (self.root / "error.log").read_text()
            with socket.socket() as probe:
                probe.settimeout(0.2)
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        raise AssertionError(f"nginx does not listen after {START_TIMEOUT} s")

    def stop(self) -> None:
        if self._process:
            self._process.terminate()
            try:
                self._process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(timeout=10)
