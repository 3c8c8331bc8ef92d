"""From the name of a model to its path: a name of the table, a path, or a name on the hub.

Piper's voices and Whisper's models also answer to the names that they are known by.
"""

from __future__ import annotations

import re
from pathlib import Path

from fusion.errors import ConfigurationError
from fusion.models import hub, table, usual_names
from fusion.models.cache import ensure, say
from fusion.models.sources import VOICE, WHISPER, Model, Progress

HUB_NAME = re.compile(r"(?P<repository>[\w.-]+/[\w.-]+)(:(?P<file>[^:]+))?")
WHISPER_PATTERNS = ("config.json", "preprocessor_config.json", "model.bin", "tokenizer.json")
VOCABULARY_PATTERN = "vocabulary.*"


def fetch(name: str, cache: Path, progress: Progress = say) -> Path:
    """Return the path of a model of the table, fetched if it is not in `cache` yet.

    whisper: a folder with model.bin, config.json, tokenizer.json and vocabulary.txt.
    llm: a GGUF file. voice: an .onnx file with its .onnx.json beside it. turn: an .onnx file.
    Raises ConfigurationError for an unknown name or when it cannot be had.
    """
    for model in table.MODELS:
        if model.name == name:
            return ensure(model, cache, progress)
    raise ConfigurationError(f"There is no model {name}; known are {known_names()}.")


def resolve(name: str, kind: str, cache: Path, progress: Progress = say) -> Path:
    """Return the path of a model given as a name of the table, a path or a name on the hub.

    `kind` is one of WHISPER, LLM, VOICE and TURN. On the hub a Whisper model is `owner/repo` (a
    folder as `fetch` gives it), every other kind `owner/repo:file`; some have a usual name besides.
    A path is returned as it is.
    Raises ConfigurationError when there is no such model or it cannot be had.
    """
    if model := find(name, kind):
        return ensure(model, cache, progress)
    path = Path(name).expanduser()
    if path.exists():
        return path
    match = HUB_NAME.fullmatch(usual_names.hub_name(name, kind) or name)
    assert match is not None
    return _from_hub(name, match["repository"], match["file"], kind, cache)


def find(name: str, kind: str) -> Model | None:
    """The model of the table that a name means; None for a path or a name on the hub.

    Fetches nothing. Raises ConfigurationError when it is none of the three.
    """
    for model in table.MODELS:
        if model.name == name and model.kind == kind:
            return model
    match = HUB_NAME.fullmatch(usual_names.hub_name(name, kind) or name)
    if name and Path(name).expanduser().exists():
        return None
    if match is None:
        raise ConfigurationError(
            f"There is no {kind} model {name!r}: give one of {_names(kind)}, the path of a "
            "model, or owner/repo:file of the Hugging Face hub."
        )
    if kind != WHISPER and match["file"] is None:
        raise ConfigurationError(
            f"There is no {kind} model {name} here, and for the Hugging Face hub the file is "
            f"missing: write {match['repository']}:FILE."
        )
    return None


def _from_hub(name: str, repository: str, file: str, kind: str, cache: Path) -> Path:
    folder = cache / "hub"
    try:
        if kind == WHISPER:
            return hub.cached_snapshot(repository, (*WHISPER_PATTERNS, VOCABULARY_PATTERN), folder)
        if kind == VOICE:
            hub.cached_file(repository, f"{file}.json", folder)
        return hub.cached_file(repository, file, folder)
    except hub.HubError as error:
        raise ConfigurationError(
            f"The {kind} model {name} is neither a path here nor one of {known_names(kind)}, and "
            f"the Hugging Face hub does not give it ({error}): correct the name, connect this "
            "machine to the network, or name the path of a copy."
        ) from error


def _names(kind: str) -> str:
    """The names of the table and some of the usual ones."""
    others = usual_names.examples(kind)
    return f"{known_names(kind)}, a usual name ({others})" if others else known_names(kind)


def known_names(kind: str | None = None) -> str:
    return ", ".join(model.name for model in table.MODELS if kind in (None, model.kind))
