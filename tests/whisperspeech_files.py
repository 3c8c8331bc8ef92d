"""WhisperSpeech models with random weights, in the library's own file formats.

They babble, but the library's real code reads them, and those of the published sizes take as long
as the real ones. Imports PyTorch only when models are made.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

COMMIT = "0" * 40
VOCODER = "charactr/vocos-encodec-24khz"


@dataclass(frozen=True)
class Sizes:
    """`tokens` is the longest sentence, in semantic tokens of 1/25 s. Each model has (heads,
    layers, width of its feed-forward part); the vocoder (width, inner width, layers)."""

    tokens: int
    t2s: tuple[int, int, int]
    s2a: tuple[int, int, int]
    vocoder: tuple[int, int, int]


MICRO = Sizes(12, t2s=(1, 2, 1), s2a=(1, 4, 2), vocoder=(32, 64, 2))
PUBLISHED = Sizes(750, t2s=(12, 12, 4), s2a=(6, 4, 4), vocoder=(384, 1152, 8))
"""t2s-small-en+pl (856 MB), s2a-q4-tiny-en+pl (80 MB) and vocos-encodec-24khz."""


def go_offline(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Let the Hugging Face cache and torch.hub's folder be in `folder`, and nothing else online."""
    import huggingface_hub.constants
    import torch

    patch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(folder / "hub"))
    patch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    patch.setattr(torch.hub, "_hub_dir", str(folder / "torch"))


def save_models(folder: Path, sizes: Sizes) -> None:
    """Write t2s.model and s2a.model, and the vocoder's files where the library looks for them."""
    import torch
    from whisperspeech import s2a_delar_mup_wds_mlang as s2a
    from whisperspeech import t2s_up_wds_mlang_enclm as t2s

    torch.manual_seed(1)
    common = {"stoks_len": sizes.tokens, "stoks_codes": 513, "stoks_width": 64}
    config = {**common, **_shape(sizes.t2s), "ttoks_len": 550}
    tunables = t2s.Tunables(**t2s.Tunables.upgrade({}))
    spec = _checkpoint(config, tunables, t2s.TSARTransformer(**config, tunables=tunables))
    torch.save(spec, folder / "t2s.model")
    torch.save(spec, hub_file(folder, "someone/voices", "t2s-micro.model"))

    config = {**common, **_shape(sizes.s2a), "quantizers": 4, "spk_width": 192}
    config["ctx_n"] = 3 * sizes.tokens
    tunables = s2a.Tunables(force_hidden_to_emb=True)
    spec = _checkpoint(config, tunables, s2a.SADelARTransformer(**config, tunables=tunables))
    torch.save(spec, folder / "s2a.model")
    _save_vocoder(folder, sizes.vocoder)


def hub_file(folder: Path, repository: str, name: str) -> Path:
    """Where the Hugging Face cache of `go_offline` has a file; its folder is made."""
    repository_folder = folder / "hub" / f"models--{repository.replace('/', '--')}"
    (repository_folder / "refs").mkdir(parents=True, exist_ok=True)
    (repository_folder / "refs" / "main").write_text(COMMIT)
    file = repository_folder / "snapshots" / COMMIT / name
    file.parent.mkdir(parents=True, exist_ok=True)
    return file


def _shape(sizes: tuple[int, int, int]) -> dict[str, int]:
    return dict(zip(("n_head", "depth", "ffn_mult"), sizes, strict=True))


def _checkpoint(config: dict[str, int], tunables: Any, model: Any) -> dict[str, Any]:
    """What the library's `save_model` writes; with today's fastcore that method fails."""
    return {
        "config": config,
        "tunables": dataclasses.asdict(tunables),
        "state_dict": model.state_dict(),
    }


def _save_vocoder(folder: Path, sizes: tuple[int, int, int]) -> None:
    import torch
    from encodec import EncodecModel
    from vocos import Vocos

    weights = folder / "torch" / "checkpoints" / "encodec_24khz-d7cc33bc.th"
    weights.parent.mkdir(parents=True)
    torch.save(EncodecModel.encodec_model_24khz(pretrained=False).state_dict(), weights)
    width, inner, layers = sizes
    config = hub_file(folder, VOCODER, "config.yaml")
    config.write_text(
        f"""
feature_extractor:
  class_path: vocos.feature_extractors.EncodecFeatures
  init_args: {{encodec_model: encodec_24khz, bandwidths: [1.5, 3.0, 6.0, 12.0]}}
backbone:
  class_path: vocos.models.VocosBackbone
  init_args: {{input_channels: 128, dim: {width}, intermediate_dim: {inner}, num_layers: {layers},
              adanorm_num_embeddings: 4}}
head:
  class_path: vocos.heads.ISTFTHead
  init_args: {{dim: {width}, n_fft: 1280, hop_length: 320, padding: same}}
"""
    )
    vocos = Vocos.from_hparams(str(config))
    torch.save(vocos.state_dict(), hub_file(folder, VOCODER, "pytorch_model.bin"))
