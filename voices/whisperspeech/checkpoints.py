"""Loads WhisperSpeech's models and the speaker's embedding; every error names what to do."""

from __future__ import annotations

import importlib
import logging
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fusion.errors import ConfigurationError
from fusion.selection import first_gpu
from fusion.settings import Settings

logger = logging.getLogger(__name__)

SPEAKER_WIDTH = 192

_BROKEN = (RuntimeError, ValueError, LookupError, TypeError, AttributeError, EOFError)
"""What a file that is no checkpoint, or one of something else, makes the libraries raise."""


@dataclass(frozen=True)
class Models:
    """The library's models, ready to be run step by step."""

    t2s: Any
    s2a: Any
    vocoder: Any
    speaker: Any
    """[192], whose voice it is."""
    device: Any


def load_models(settings: Settings) -> Models:
    """Load what the settings name, in half precision on a GPU.

    Raises ConfigurationError when a package, a model or the speaker's file is missing or broken.
    """
    speaker = _read_speaker(settings.whisperspeech_speaker)
    library = _import_library("whisperspeech.pipeline")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu" and (unused := first_gpu()):
        logger.warning(
            "no GPU for the voice (PyTorch %s cannot use the %s): it is far too slow on the CPU",
            torch.__version__,
            unused.name,
        )
    with torch.no_grad():
        return Models(
            t2s=_load_model("t2s", settings.whisperspeech_t2s, device),
            s2a=_load_model("s2a", settings.whisperspeech_s2a, device),
            vocoder=_load_vocoder(device),
            speaker=library.Pipeline.default_speaker if speaker is None else speaker,
            device=device,
        )


def _load_model(name: str, reference: str, device: Any) -> Any:
    """One of the two transformers, its linear layers merged as the library's `optimize` does."""
    try:
        checkpoint = _read_checkpoint(_file(reference), device)
        model = _class_for(name, checkpoint).load_model(spec=checkpoint, device=device)
    except (OSError, pickle.UnpicklingError, *_BROKEN) as error:
        raise ConfigurationError(
            f"The WhisperSpeech model {reference} cannot be loaded ({_reason(error)}): "
            f"check --whisperspeech_{name}."
        ) from error
    _merge_layers(model)
    model.switch_dtypes(torch.float16 if device.type == "cuda" else torch.float32)
    return model


def _file(reference: str) -> str:
    """The file of a "repository:file" of the Hugging Face hub, fetched if need be, or of a path."""
    repository, colon, name = reference.partition(":")
    if not colon:
        return str(Path(reference).expanduser())
    hub = importlib.import_module("huggingface_hub")
    path: str = hub.hf_hub_download(repo_id=repository, filename=name)
    return path


def _read_checkpoint(path: str, device: Any) -> Any:
    """Read a checkpoint as tensors and plain values.

    It is a pickle, and a pickle can run any code. PyTorch reads it without that (`weights_only`)
    where it holds nothing but tensors, numbers, texts, lists and dictionaries, as the library
    writes it. One that holds more is refused by that and is then trusted whole: whoever named the
    file vouches for it, and the log says so.
    """
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except pickle.UnpicklingError as refused:
        logger.warning(
            "%s is not only weights (%s): it is loaded as a pickle, which can run code of its "
            "author's. Use it only if you trust where it comes from.",
            path,
            _reason(refused),
        )
    return torch.load(path, map_location=device, weights_only=False)


def _class_for(name: str, checkpoint: Any) -> Any:
    """The library's class of a checkpoint, as its `Pipeline` chooses it."""
    if name == "t2s":
        return importlib.import_module("whisperspeech.t2s_up_wds_mlang_enclm").TSARTransformer
    conditioned = any(key.startswith("cond_embeddings.") for key in checkpoint["state_dict"])
    module = "s2a_delar_mup_wds_mlang_cond" if conditioned else "s2a_delar_mup_wds_mlang"
    return importlib.import_module(f"whisperspeech.{module}").SADelARTransformer


def _merge_layers(model: Any) -> None:
    """The library's `optimize` less its caches, which hold one utterance."""
    t2s = hasattr(model, "embeddings")
    for embedding in [model.embeddings.embedding] if t2s else model.embds.embeddings:
        embedding.convert_for_eval()
    for layer in model.encoder.layers if t2s else model.encoder:
        layer.attn.convert_for_eval()
    for layer in model.decoder.layers:
        layer.attn.convert_for_eval()
        layer.cross_attn.convert_for_eval()


def _load_vocoder(device: Any) -> Any:
    vocoder = _import_library("whisperspeech.a2wav").Vocoder
    try:
        return vocoder(device=device.type)
    except (OSError, pickle.UnpicklingError, *_BROKEN) as error:
        raise ConfigurationError(
            f"The vocoder of WhisperSpeech cannot be loaded ({_reason(error)}): connect to the "
            "internet once, or put charactr/vocos-encodec-24khz and EnCodec's weights into their "
            "caches."
        ) from error


def _read_speaker(path: str) -> Any:
    """A speaker embedding, as `Pipeline.extract_spk_emb` makes it and torch.save stores it."""
    if not path:
        return None
    advice = f"give --whisperspeech_speaker a file of torch.save with {SPEAKER_WIDTH} numbers"
    try:
        embedding = torch.load(Path(path).expanduser(), map_location="cpu", weights_only=True)
    except OSError as error:
        raise ConfigurationError(f"The speaker {path} cannot be read: {advice}.") from error
    except (pickle.UnpicklingError, *_BROKEN) as error:
        raise ConfigurationError(f"{path} is no speaker embedding: {advice}.") from error
    if not isinstance(embedding, torch.Tensor) or embedding.numel() != SPEAKER_WIDTH:
        raise ConfigurationError(f"{path} is no speaker embedding: {advice}.")
    return embedding.float().reshape(SPEAKER_WIDTH)


def _import_library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except (ImportError, OSError) as error:  # OSError: a torchaudio that is not this torch's
        raise ConfigurationError(
            f"WhisperSpeech cannot be imported ({error}): install what requirements-torch.txt "
            "names (the extra gpu), and the torchaudio of the installed torch."
        ) from error


def _reason(error: BaseException) -> str:
    """An error in a line: its kind and the first line of what it says."""
    said = str(error).strip().splitlines()
    return f"{type(error).__name__}: {said[0]}" if said else type(error).__name__
