"""A WhisperSpeech voice over small random models, and the library's own over the same.

Nothing here imports PyTorch before a test asks for it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fusion.settings import Settings
from tests.whisperspeech.files import MICRO, Library, go_offline, save_models
from tests.whisperspeech.saying import TEXTS, say


@pytest.fixture(scope="package")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A Hugging Face cache and a torch.hub folder with random models, and nothing else online."""
    folder = tmp_path_factory.mktemp("whisperspeech")
    with pytest.MonkeyPatch.context() as patch:
        _allow_torchaudio_without_cuda(folder, patch)
        import torch

        go_offline(folder, patch)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        save_models(folder, MICRO)
        yield folder
        torch.set_num_threads(threads)


def _allow_torchaudio_without_cuda(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """PyPI's torchaudio holds a library that needs CUDA's; the rest of it works without both."""
    import torch

    if torch.version.cuda is not None:
        return
    found = [Path(path, "torchaudio") for path in sys.path if Path(path, "torchaudio").is_dir()]
    python_only = folder / "python" / "torchaudio"
    python_only.mkdir(parents=True)
    for entry in found[0].iterdir():
        if entry.name != "lib":
            (python_only / entry.name).symlink_to(entry)
    patch.syspath_prepend(str(python_only.parent))


@pytest.fixture(scope="package")
def settings(folder: Path) -> Settings:
    return Settings(
        whisperspeech_t2s=str(folder / "t2s.model"),
        whisperspeech_s2a=str(folder / "s2a.model"),
        whisperspeech_instances=3,
    )


@pytest.fixture(scope="package")
def library(folder: Path) -> Library:
    import torch

    return Library.load(folder, dtype=torch.float32, torch_compile=False)


@pytest.fixture(scope="package")
def voice(settings: Settings) -> Iterator[Any]:
    from voices import whisperspeech

    loaded = whisperspeech.load(settings)
    yield loaded
    loaded.close()


@pytest.fixture(scope="package")
def long(voice: Any) -> int:
    """A seed with which `TEXTS[0]` is long. (Random weights are others with other torches.)"""
    return next(n for n in range(50) if sum(map(len, say(voice, TEXTS[0], n))) > 150 * 320)
