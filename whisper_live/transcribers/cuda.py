"""Whether CTranslate2 can use a GPU here: the library that it loads by itself.

That a card and a library are there does not mean that the library's kernels run on the card:
whoever loads a model tries it once.
"""

from __future__ import annotations

import ctypes
import importlib.util
import logging
from collections.abc import Iterator
from pathlib import Path

import ctranslate2

logger = logging.getLogger(__name__)

CUBLAS = ("libcublasLt.so.12", "libcublas.so.12")
"""What CTranslate2 4.8 opens by name at its first product, in the order in which they need each
other."""


def is_usable() -> bool:
    """Whether there is a GPU and cuBLAS for CUDA 12, which stays loaded then.

    It is looked for where the system looks, then in the package nvidia-cublas-cu12.
    """
    if ctranslate2.get_cuda_device_count() == 0:
        return False
    reason = ""
    for folder in _folders():
        try:
            for name in CUBLAS:
                ctypes.CDLL(str(folder / name), mode=ctypes.RTLD_GLOBAL)
        except OSError as error:
            reason = reason or str(error)
        else:
            return True
    logger.warning(
        "no GPU for speech recognition (%s): it runs on the CPU; `pip install nvidia-cublas-cu12` "
        "brings the library",
        reason,
    )
    return False


def _folders() -> Iterator[Path]:
    """The system's own places (by a bare name), and the folders of NVIDIA's package."""
    yield Path()
    try:
        found = importlib.util.find_spec("nvidia.cublas")
    except ModuleNotFoundError:  # nor anything else of NVIDIA's
        return
    for place in (found.submodule_search_locations or []) if found else []:
        yield Path(place, "lib")
