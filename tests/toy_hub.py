"""A stand-in for `huggingface_hub` over a hub that is held in memory."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import pytest

from fusion.models import hub

HubFiles = dict[tuple[str, str, str], bytes]
"""(repository, revision, file) to content. Empty: the hub cannot be reached."""


def install(monkeypatch: pytest.MonkeyPatch) -> HubFiles:
    """Put it in the library's place. What the hub holds may be changed at any time."""
    held: HubFiles = {}

    class LocalEntryNotFoundError(FileNotFoundError):
        pass

    class HfHubHTTPError(OSError):
        pass

    class RepositoryNotFoundError(HfHubHTTPError):
        pass

    class EntryNotFoundError(HfHubHTTPError):
        pass

    def hf_hub_download(
        repo_id: str,
        filename: str,
        revision: str = "main",
        local_dir: Path | None = None,
        cache_dir: Path | None = None,
        local_files_only: bool = False,
    ) -> str:
        folder = local_dir or Path(str(cache_dir), repo_id.replace("/", "--"))
        target = Path(folder, filename)
        if local_files_only and target.exists():
            return str(target)
        if local_files_only or not held:
            raise LocalEntryNotFoundError("no such file in the cache\nand no connection")
        if (repo_id, revision, filename) not in held:
            raise RepositoryNotFoundError("404")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(held[repo_id, revision, filename])
        return str(target)

    def snapshot_download(
        repo_id: str, allow_patterns: list[str], cache_dir: Path, local_files_only: bool = False
    ) -> str:
        folder = Path(cache_dir, repo_id.replace("/", "--"))
        if not (local_files_only and folder.exists()):
            wanted = [name for repo, _, name in held if repo == repo_id and name in allow_patterns]
            for name in wanted or allow_patterns:
                hf_hub_download(
                    repo_id, name, cache_dir=cache_dir, local_files_only=local_files_only
                )
        return str(folder)

    library = types.ModuleType("huggingface_hub")
    errors = types.ModuleType("huggingface_hub.errors")
    vars(errors).update(
        LocalEntryNotFoundError=LocalEntryNotFoundError,
        HfHubHTTPError=HfHubHTTPError,
        RepositoryNotFoundError=RepositoryNotFoundError,
        EntryNotFoundError=EntryNotFoundError,
    )
    vars(library).update(
        hf_hub_download=hf_hub_download, snapshot_download=snapshot_download, errors=errors
    )
    monkeypatch.setitem(sys.modules, "huggingface_hub", library)
    monkeypatch.setitem(sys.modules, "huggingface_hub.errors", errors)
    monkeypatch.setattr(hub, "is_reachable", lambda: bool(held))
    return held
