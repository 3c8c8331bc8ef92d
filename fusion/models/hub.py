"""The Hugging Face hub: single files and snapshots. Its library is imported when it is needed."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path


class HubError(Exception):
    """The hub does not give a file; the text is a short reason for the person."""


REACH_SECONDS = 3.0


def is_reachable() -> bool:
    """Whether the hub answers within a few seconds; its library would retry for a minute."""
    try:
        from huggingface_hub import constants
    except ImportError:
        return False
    if constants.HF_HUB_OFFLINE:
        return False
    try:
        request = urllib.request.Request(constants.ENDPOINT, method="HEAD")
        with urllib.request.urlopen(request, timeout=REACH_SECONDS):
            return True
    except urllib.error.HTTPError:
        return True  # it answers, and that is all that was asked
    except (OSError, ValueError, http.client.HTTPException):
        return False


def download(repository: str, file: str, folder: Path, revision: str = "main") -> Path:
    """Download a file of a repository to below `folder` and return its path.

    Raises HubError.
    """
    try:
        from huggingface_hub import hf_hub_download
    except ImportError as error:
        raise HubError("huggingface_hub is not installed") from error
    try:
        return Path(
            hf_hub_download(repo_id=repository, filename=file, revision=revision, local_dir=folder)
        )
    except _errors() as error:
        raise HubError(_reason(repository, error)) from error


def cached_file(repository: str, file: str, cache: Path) -> Path:
    """Return a file of a repository from `cache`; downloads it the first time. Raises HubError."""
    try:
        from huggingface_hub import hf_hub_download
    except ImportError as error:
        raise HubError("huggingface_hub is not installed") from error
    errors = _errors()
    try:
        return Path(
            hf_hub_download(
                repo_id=repository, filename=file, cache_dir=cache, local_files_only=True
            )
        )
    except errors:
        pass  # Not there yet. Asking the cache alone first keeps a later start offline and instant.
    _require_reachable(repository)
    try:
        return Path(hf_hub_download(repo_id=repository, filename=file, cache_dir=cache))
    except errors as error:
        raise HubError(_reason(repository, error)) from error


def cached_snapshot(repository: str, patterns: Sequence[str], cache: Path) -> Path:
    """Return the folder with a repository's files that match `patterns`, as `cached_file` does."""
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise HubError("huggingface_hub is not installed") from error
    errors = _errors()
    wanted = list(patterns)
    try:
        return Path(
            snapshot_download(
                repository, allow_patterns=wanted, cache_dir=cache, local_files_only=True
            )
        )
    except errors:
        pass  # As above.
    _require_reachable(repository)
    try:
        return Path(snapshot_download(repository, allow_patterns=wanted, cache_dir=cache))
    except errors as error:
        raise HubError(_reason(repository, error)) from error


def _require_reachable(repository: str) -> None:
    """Raise HubError where the hub does not answer: its library would try for a minute, aloud."""
    if not is_reachable():
        raise HubError(f"no connection for {repository}")


def _errors() -> tuple[type[Exception], ...]:
    """What the library raises when a download fails, whichever HTTP library its release uses."""
    from huggingface_hub import errors

    named = (getattr(errors, name, None) for name in ("HTTPError", "XetDownloadError"))
    return (OSError, ValueError, RuntimeError, errors.HfHubHTTPError, *filter(None, named))


def _reason(repository: str, error: Exception) -> str:
    from huggingface_hub import errors

    if isinstance(error, errors.LocalEntryNotFoundError):
        return f"no connection for {repository}"
    if isinstance(error, errors.RepositoryNotFoundError):
        return f"no repository {repository} there, or it needs a login"
    if isinstance(error, errors.EntryNotFoundError):
        return f"no such file in {repository}"
    return str(error).strip().partition("\n")[0] or type(error).__name__
