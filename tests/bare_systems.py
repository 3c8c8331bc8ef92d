"""Try the README's commands in a bare Debian and a bare Ubuntu: make bare-systems

debootstrap makes each system anew, with Python, its venv package, make and git and nothing else.
The last commit of this checkout is cloned into it, and every command runs there in a chroot of its
own: first with a network and an empty model cache, then again without a network. A table says what
passed and how long it took; the exit code is 1 if anything failed. It needs root.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = Path("/var/tmp/whisperfusion-bare-systems")
PROGRAMS = {
    "debootstrap": "debootstrap",
    "git": "git",
    "ip": "iproute2",
    "unshare": "util-linux",
}
"""What this needs of the machine, and Debian's and Ubuntu's package for each."""

BARE = "python3,python3-venv,make,git"
CHECKOUT = "srv/whisperfusion"
STEP_TIMEOUT = 2 * 3600.0
"""Seconds: a slow machine installs for minutes, and tests for half an hour."""

NETWORK_VARIABLE = re.compile(
    r"(https?|ftp|no|all)_proxy|(PIP|UV|npm_config)_\w+|SSL_CERT_(FILE|DIR)|\w+_CA_BUNDLE"
    r"|NODE_EXTRA_CA_CERTS",
    re.IGNORECASE,
)
NETWORK_FILES = (
    *("/etc/resolv.conf", "/etc/hosts", "/etc/pip.conf", "/etc/xdg/pip", "/etc/npmrc"),
    *("/etc/ssl/certs/ca-certificates.crt", "/usr/local/share/ca-certificates"),
    *("~/.config/pip", "~/.pip", "~/.npmrc"),
)
"""How this machine reaches the package registries; a bare system on it gets the same."""

# Mounts and processes are in namespaces of their own and end with the command.
ENTER = """
set -e
root="$1" online="$2" command="$3"
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
mount --rbind /dev "$root/dev"
mount -t tmpfs -o mode=1777 shm "$root/dev/shm"
[ "$online" = yes ] || ip link set lo up
chroot "$root" bash -c "cd /$4 || exit; $command"
"""


@dataclass(frozen=True)
class System:
    name: str
    release: str
    mirror: str
    components: str
    security: str
    """The mirror of the security updates."""

    keyring: str
    """The key that signs its packages, in /usr/share/keyrings as both systems have it there."""

    @property
    def sources(self) -> str:
        """What /etc/apt/sources.list holds where somebody has just installed the system."""
        components = self.components.replace(",", " ")
        return (
            f"deb {self.mirror} {self.release} {components}\n"
            f"deb {self.mirror} {self.release}-updates {components}\n"
            f"deb {self.security} {self.release}-security {components}\n"
        )

    @property
    def debootstrap_script(self) -> str:
        """Debian's debootstrap knows no later Ubuntu by name; all of them are made alike."""
        known = Path("/usr/share/debootstrap/scripts", self.release).exists()
        return self.release if known or self.name != "ubuntu" else "gutsy"


SYSTEMS = (
    System(
        "debian",
        "bookworm",
        "http://deb.debian.org/debian",
        "main",
        "http://deb.debian.org/debian-security",
        "debian-archive-keyring",
    ),
    System(
        "ubuntu",
        "noble",
        "http://archive.ubuntu.com/ubuntu",
        "main,universe",
        "http://security.ubuntu.com/ubuntu",
        "ubuntu-archive-keyring",
    ),
)


@dataclass(frozen=True)
class Step:
    name: str
    command: str
    """For bash, in the checkout."""

    offline: bool = True
    """Whether it has to work again without a network."""

    own_ports: bool = False
    """Whether it gets free ports by the environment: online, the network is this machine's."""


STEPS = (
    Step(
        "make run",
        """
        make run & server=$!
        until python3 -c "$ASK" 2>/dev/null; do
            kill -0 $server || exit 1
            sleep 0.5
        done
        kill -TERM $server
        wait $server || true
        ! python3 -c "$ASK" 2>/dev/null
        """,
        own_ports=True,
    ),
    Step("make demo", "rm -f reply.wav && make demo && test -s reply.wav", own_ports=True),
    Step(
        "make test, not root",
        # It has to end before the first test, and to say how to go on.
        """
        said="$(su nobody -s /bin/sh -c 'make test' 2>&1)" && exit 1
        echo "$said"
        [[ $said == *'as root, run `apt-get install'* && $said != *pytest* ]]
        """,
        offline=False,
    ),
    Step("make test-python", "make test-python"),
    Step("make test", "make test"),
)

ASK = """
import os, urllib.request
port = os.environ["WHISPERFUSION_WEB_PORT"]
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
opener.open(f"http://127.0.0.1:{port}/healthz", timeout=5)
"""


class BareSystem:
    """A system in a folder. What its commands print goes to a file each, in `logs`."""

    def __init__(self, system: System, folder: Path) -> None:
        self.system = system
        self.root = folder / system.name
        self.logs = folder / "logs"

    def make(self, log: Path) -> bool:
        """Make it anew, with this checkout in it. Return whether that worked."""
        shutil.rmtree(self.root, ignore_errors=True)
        system = self.system
        keyring = Path("/usr/share/keyrings", f"{system.keyring}.gpg")
        if not keyring.exists():
            log.write_text(
                f"{keyring} is missing, with which {system.name}'s packages are checked: install "
                f"it, or run this on {system.name}.\n"
            )
            return False
        with log.open("wb") as file:
            made = subprocess.run(
                [
                    *("debootstrap", "--force-check-gpg", "--variant=minbase"),
                    *(f"--components={system.components}", f"--include={BARE}", system.release),
                    *(str(self.root), system.mirror, system.debootstrap_script),
                ],
                stdout=file,
                stderr=subprocess.STDOUT,
                check=False,
            )
            if made.returncode:
                return False
            (self.root / "etc/apt/sources.list").write_text(system.sources)
            self._copy_network_settings()
            clone = ["git", "clone", "--quiet", str(ROOT), str(self.root / CHECKOUT)]
            return not subprocess.run(
                clone, stdout=file, stderr=subprocess.STDOUT, check=False
            ).returncode

    def _copy_network_settings(self) -> None:
        for name in NETWORK_FILES:
            source = Path(name).expanduser()
            target = self.root / name.replace("~", "root").lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, dirs_exist_ok=True)
            elif source.is_file():
                shutil.copyfile(source, target)
        for source in Path("/etc/apt/apt.conf.d").glob("*"):
            if "Acquire::" in source.read_text(errors="replace"):
                shutil.copy(source, self.root / "etc/apt/apt.conf.d")

    def run(self, step: Step, *, online: bool, log: Path) -> bool:
        """Run one step. Return whether it passed; `log` holds what it printed."""
        environment = {
            **network_variables(os.environ),
            "HOME": "/root",
            "ASK": ASK,
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        }
        if step.own_ports:
            environment.update(free_ports())
        namespaces = ["--mount", "--pid", "--fork", "--kill-child", *([] if online else ["--net"])]
        inside = [str(self.root), "yes" if online else "no", step.command, CHECKOUT]
        with log.open("wb") as file:
            try:
                ended = subprocess.run(
                    ["unshare", *namespaces, "bash", "-c", ENTER, "enter", *inside],
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    env=environment,
                    timeout=STEP_TIMEOUT,
                    check=False,
                )
            except subprocess.TimeoutExpired:
                file.write(f"It did not end within {STEP_TIMEOUT:.0f} s.\n".encode())
                return False
        return ended.returncode == 0


def network_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """Return what of an environment says how the package registries are reached."""
    return {name: value for name, value in environment.items() if NETWORK_VARIABLE.fullmatch(name)}


def free_ports() -> dict[str, str]:
    """Return settings that keep away from a server which runs on this machine."""
    names = ("TRANSCRIPTION", "SPEECH", "WEB")
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in names]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        ports = [probe.getsockname()[1] for probe in probes]
    return {
        f"WHISPERFUSION_{name}_PORT": str(port) for name, port in zip(names, ports, strict=True)
    }


class Table:
    """The results, a line as each comes."""

    def __init__(self) -> None:
        self.passed = self.failed = 0

    def add(self, system: str, network: str, step: str, passed: bool, seconds: float) -> None:
        self.passed += passed
        self.failed += not passed
        result = "passed" if passed else "FAILED"
        minutes, rest = divmod(round(seconds), 60)
        print(f"{system:8} {network:8} {step:20} {result}  {minutes:3}:{rest:02}", flush=True)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="make bare-systems", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--system", choices=[system.name for system in SYSTEMS], action="append")
    parser.add_argument("--step", choices=[step.name for step in STEPS], action="append")
    parser.add_argument("--folder", type=Path, default=FOLDER, help=f"default: {FOLDER}")
    options = parser.parse_args(arguments)
    if os.geteuid() != 0:
        raise SystemExit("Only root may make a system: run `sudo make bare-systems`.")
    if missing := [package for name, package in PROGRAMS.items() if not shutil.which(name)]:
        install = f"apt-get install {' '.join(missing)}"
        raise SystemExit(f"Programs are missing: run `{install}`, then this again.")

    table = Table()
    for system in SYSTEMS:
        if not options.system or system.name in options.system:
            steps = [step for step in STEPS if not options.step or step.name in options.step]
            try_system(BareSystem(system, options.folder), steps, table)
    print(f"{table.passed} passed, {table.failed} failed")
    return 1 if table.failed else 0


def try_system(bare: BareSystem, steps: list[Step], table: Table) -> None:
    """Make a system and run the steps in it, with and without a network; keep it if one failed."""
    bare.logs.mkdir(parents=True, exist_ok=True)
    failed = table.failed
    name = bare.system.name

    def entry(network: str, step: str) -> Path:
        return bare.logs / f"{name} {network} {step}.log".replace(" ", "-").replace(",", "")

    log = entry("online", "debootstrap")
    started = time.monotonic()
    made = bare.make(log)
    table.add(name, "online", "debootstrap", made, time.monotonic() - started)
    if not made:
        show_end(log)
        print(f"{name}: its other steps were not run")
        return
    for online in (True, False):
        network = "online" if online else "offline"
        for step in steps:
            if online or step.offline:
                log = entry(network, step.name)
                started = time.monotonic()
                passed = bare.run(step, online=online, log=log)
                table.add(name, network, step.name, passed, time.monotonic() - started)
                if not passed:
                    show_end(log)
    if table.failed == failed:
        shutil.rmtree(bare.root)
    else:
        print(f"{name}: kept in {bare.root}, to look at; the next run makes it anew")


def show_end(log: Path) -> None:
    """Print the last lines of a log."""
    print("".join(f"    {line}\n" for line in log.read_text(errors="replace").splitlines()[-12:]))
    print(f"    (the rest: {log})", flush=True)


if __name__ == "__main__":
    sys.exit(main())
