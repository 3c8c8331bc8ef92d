"""Starts the real program for a test, on free ports, and stops it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on. They are bound together, so that no two are the same."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


@dataclass
class RunningServer:
    """`main.py` in a process of its own, with its log in a file. `flags` go to its command line.

    `command` is another program that does the same, and `folder` the one that it is started in.
    Where the flags name no language model it is the smallest: nothing is downloaded meanwhile.
    """

    flags: tuple[str, ...] = ()
    ports: list[int] = field(default_factory=lambda: free_ports(3))
    command: tuple[str, ...] = (sys.executable, "main.py")
    folder: Path = ROOT

    def __post_init__(self) -> None:
        self.transcription_port, self.speech_port, self.web_port = self.ports
        descriptor, name = tempfile.mkstemp(suffix=".log")
        self._log_file = Path(name)
        self._log = os.fdopen(descriptor, "wb")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        return self._log_file.read_text()

    def start(self, timeout: float = 150.0) -> RunningServer:
        """Start and wait until the whole pipeline is ready."""
        # A machine that is busy with tests would be measured to serve fewer than they need.
        command = [*self.command, "--host", "127.0.0.1", "--llm", "smollm2-135m"]
        command += ["--admission", "fixed"]
        for name in ("transcription_port", "speech_port", "web_port"):
            command += [f"--{name}", str(getattr(self, name))]
        self._process = subprocess.Popen(
            [*command, *self.flags], cwd=self.folder, stdout=self._log, stderr=subprocess.STDOUT
        )
        self.wait_until_ready(timeout)
        return self

    def wait_until_ready(self, timeout: float = 60.0) -> None:
        assert self._process is not None
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise AssertionError(
                    f"the server ended with {self._process.returncode}:\n{self.log}"
                )
            if self.health()[0] == 200:
                return
            time.sleep(0.1)
        raise AssertionError(f"not ready within {timeout:.0f} s: {self.health()[1]}\n{self.log}")

    def health(self) -> tuple[int, str]:
        """Status and text of /healthz on the transcription port; 0 when nobody listens."""
        try:
            address = f"http://127.0.0.1:{self.transcription_port}/healthz"
            with urllib.request.urlopen(address, timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError as error:
            return 0, str(error)

    def children(self) -> list[int]:
        """Its processes: the services, and Python's own that looks after what they share."""
        found = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):  # one that has just ended
                parent = stat.read_text().rsplit(")", 1)[1].split()[1]
                if int(parent) == self.pid:
                    found.append(int(stat.parent.name))
        return found

    def service_pid(self, name: str) -> int:
        """The process that runs one of the services: voice, transcription or language_model."""
        socket_of = {
            "voice": "audio_queue",
            "transcription": "llm_queue",
            "language_model": "transcription_queue",
        }[name]
        for child in self.children():
            if socket_of in _listening_sockets(child):
                return child
        raise AssertionError(f"no process serves {name}:\n{self.log}")

    def kill(self, name: str) -> None:
        """`kill -9` of one service."""
        os.kill(self.service_pid(name), signal.SIGKILL)

    def stop(self, timeout: float = 10.0) -> int:
        """Ask it to end as Ctrl-C or `docker stop` does; its exit code."""
        assert self._process is not None
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise

    def __enter__(self) -> RunningServer:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._log.close()
        self._log_file.unlink()


def _listening_sockets(pid: int) -> set[str]:
    """Names of the Unix sockets that a process listens on."""
    inodes = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            inodes.add(str(descriptor.readlink()).removeprefix("socket:[").removesuffix("]"))
    names = set()
    for line in Path("/proc/net/unix").read_text().splitlines()[1:]:
        parts = line.split()
        # Flags 00010000: a socket that accepts connections.
        if len(parts) == 8 and parts[3] == "00010000" and parts[6] in inodes:
            names.add(Path(parts[7]).name)
    return names
