"""What a model's library raises ends a turn, not the process.

Libraries raise whatever they like, and differently in each version. Here, and nowhere else, all of
it becomes a `ModelError`. A library that is lost for good (its reader died, the GPU is gone) ends
the process from a thread of its own: see the models' files.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

from fusion.errors import FusionError, ModelError
from language_models.base import Cancellation, Finish, GenerationRequest, LanguageModel, Stream

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def as_model_errors(library: str) -> Iterator[None]:
    """Raise a ModelError, a sentence for the client, for whatever a library's call raises.

    What is a FusionError already says more, and stays.
    """
    try:
        yield
    except FusionError:
        raise
    except Exception as error:
        logger.exception("%s failed", library)
        reason = " ".join(str(error).split())[:200]
        detail = f"{type(error).__name__}: {reason}" if reason else type(error).__name__
        raise ModelError(
            f"The language model failed to answer ({detail}). Please say it again."
        ) from error


def guarded_stream(
    model: LanguageModel, request: GenerationRequest, cancellation: Cancellation
) -> Stream:
    """`model.stream`, which raises nothing but FusionErrors."""
    with as_model_errors(model.name):
        stream = model.stream(request, cancellation)
    try:
        while True:
            with as_model_errors(model.name):
                try:
                    piece = next(stream)
                except StopIteration as end:
                    finish: Finish = end.value
                    return finish
            yield piece
    finally:
        with as_model_errors(model.name):
            stream.close()
