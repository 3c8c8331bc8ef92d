"""A package of the npm registry, by the registry's own protocol: npm itself is not needed.

    python -m fusion.models.npm NAME@VERSION

writes the package's archive to the current folder, as `npm pack` does; none of its code is run.
The registry is the one of npm's settings (npm_config_registry, or `registry=` in ~/.npmrc).
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import os
import shutil
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

REGISTRY = "https://registry.npmjs.org"

TIMEOUT = 30.0


def registry(environment: Mapping[str, str], settings: str) -> str:
    """Return the registry's address by the environment and the text of an .npmrc."""
    for name in ("npm_config_registry", "NPM_CONFIG_REGISTRY"):
        if environment.get(name):
            return environment[name].rstrip("/")
    for line in settings.splitlines():
        key, _, value = (part.strip() for part in line.partition("="))
        if key == "registry" and value:
            return value.rstrip("/")
    return REGISTRY


def fetch(requirement: str, address: str, folder: Path) -> Path:
    """Download `name@version` to `folder` and return the archive.

    Raises OSError or http.client.HTTPException for what the network does, ValueError for an answer
    that is none or an archive that is not the registry's.
    """
    name, _, version = requirement.rpartition("@")
    with urllib.request.urlopen(f"{address}/{name}/{version}", timeout=TIMEOUT) as answer:
        about = json.load(answer)
    try:
        source, integrity = str(about["dist"]["tarball"]), str(about["dist"]["integrity"])
    except (KeyError, TypeError) as error:
        raise ValueError("the registry's answer names no archive") from error
    archive = folder / f"{name.rpartition('/')[2]}-{version}.tgz"
    part = archive.with_suffix(".part")
    with urllib.request.urlopen(source, timeout=TIMEOUT) as answer, part.open("wb") as target:
        shutil.copyfileobj(answer, target)
    if not _is_intact(part, integrity):
        raise ValueError("the archive is not the one that the registry tells of")
    return part.rename(archive)


def _is_intact(file: Path, integrity: str) -> bool:
    """Whether a file has one of the sums of a Subresource Integrity text, as "sha512-…"."""
    for each in integrity.split():
        algorithm, _, expected = each.partition("-")
        if algorithm in ("sha512", "sha384", "sha256"):
            digest = hashlib.new(algorithm, file.read_bytes()).digest()
            return base64.b64encode(digest).decode() == expected
    return False


def main() -> None:
    settings = Path("~/.npmrc").expanduser()
    text = settings.read_text(errors="replace") if settings.is_file() else ""
    try:
        fetch(sys.argv[1], registry(os.environ, text), Path.cwd())
    except urllib.error.HTTPError as error:
        sys.exit(f"ERROR: the npm registry answers {error.code} {error.reason}")
    except (OSError, http.client.HTTPException) as error:
        sys.exit(f"ERROR: no connection to the npm registry ({error})")
    except ValueError as error:
        sys.exit(f"ERROR: {error}")


if __name__ == "__main__":
    main()
