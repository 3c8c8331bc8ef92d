"""WhisperSpeech models with random weights, in the library's own file formats.

They babble, but the library's real code reads them, and those of the published sizes take as long
as the real ones. Imports PyTorch only when models are made.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
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
    codebook: int
    """Width of the semantic tokens' embedding."""
    end: float
    """How much more often than any other token the end is drawn, as a logit."""


MICRO = Sizes(60, t2s=(1, 2, 1), s2a=(1, 4, 2), vocoder=(32, 64, 8), codebook=32, end=4.0)
PUBLISHED = Sizes(
    750, t2s=(12, 12, 4), s2a=(6, 4, 4), vocoder=(384, 1152, 8), codebook=64, end=-30.0
)
"""t2s-small-en+pl (856 MB), s2a-q4-tiny-en+pl (80 MB) and vocos-encodec-24khz; they never end."""


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
    common = {"stoks_len": sizes.tokens, "stoks_codes": 513, "stoks_width": sizes.codebook}
    config = {**common, **_shape(sizes.t2s), "ttoks_len": 550}
    tunables = t2s.Tunables(**t2s.Tunables.upgrade({}))
    model = t2s.TSARTransformer(**config, tunables=tunables)
    _draw_weights(model, [model.embeddings.embedding], sizes.end)
    spec = _checkpoint(config, tunables, model)
    torch.save(spec, folder / "t2s.model")
    torch.save(spec, hub_file(folder, "someone/voices", "t2s-micro.model"))

    config = {**common, **_shape(sizes.s2a), "quantizers": 4, "spk_width": 192}
    config["ctx_n"] = 3 * sizes.tokens
    tunables = s2a.Tunables(force_hidden_to_emb=True, output_mult=0.5)
    model = s2a.SADelARTransformer(**config, tunables=tunables)
    _draw_weights(model, list(model.embds.embeddings))
    spec = _checkpoint(config, tunables, model)
    torch.save(spec, folder / "s2a.model")
    _save_vocoder(folder, sizes.vocoder)


def _draw_weights(model: Any, outputs: list[Any], end: float = 0.0) -> None:
    """Weights that matter: the library's own start has no attention and draws all tokens alike.

    They are the same with every version of PyTorch. `outputs` are the embeddings that make the
    logits, which get a standard deviation of about 2; the end token's are raised by `end`.
    """
    import torch

    scale = model.tunables.output_mult / (model.width / model.base_width)
    random = np.random.default_rng(1)

    def fill(parameter: Any, deviation: float, mean: float = 0.0) -> None:
        drawn = random.standard_normal(tuple(parameter.shape), dtype=np.float32)
        parameter.copy_(torch.from_numpy(drawn * np.float32(deviation) + np.float32(mean)))

    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.Linear):
                fill(module.weight, module.in_features**-0.5)
                if module.bias is not None:
                    fill(module.bias, 0.1)
            elif isinstance(module, torch.nn.LayerNorm):
                fill(module.weight, 0.1, mean=1.0)
                fill(module.bias, 0.1)
            elif isinstance(module, torch.nn.Embedding):
                fill(module.weight, 1.0)
        for output in outputs:
            fill(output.main.weight, 2 / (output.main.weight.shape[1] ** 0.5 * scale))
            fill(output.special.weight, 2 / (model.width**0.5 * scale))
            if output.hidden_to_emb is not None:
                token = output.main.weight[-1]  # the end; see the library's padding_token_offset
                output.hidden_to_emb.bias.copy_(token * (end / scale / token.dot(token)))


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
    # By itself it starts with all codes alike, and hardly looks at a frame's neighbours.
    with torch.no_grad():
        vocos.feature_extractor.codebook_weights.normal_()
        for block in vocos.backbone.convnext:
            block.gamma.fill_(1)
            block.dwconv.weight.normal_(std=block.dwconv.weight.shape[-1] ** -0.5)
            for layer in (block.pwconv1, block.pwconv2):
                layer.weight.normal_(std=layer.in_features**-0.5)
    torch.save(vocos.state_dict(), hub_file(folder, VOCODER, "pytorch_model.bin"))


@dataclass(frozen=True)
class Library:
    """The library's own `Pipeline` over the models of a folder."""

    pipeline: Any

    @classmethod
    def load(cls, folder: Path, **optimized: Any) -> Library:
        """`optimized` goes to the models' `optimize`."""
        from whisperspeech.pipeline import Pipeline

        with contextlib.redirect_stdout(io.StringIO()):
            pipeline = Pipeline(
                t2s_ref=str(folder / "t2s.model"),
                s2a_ref=str(folder / "s2a.model"),
                optimize=False,
            )
        for model in (pipeline.t2s, pipeline.s2a):
            model.optimize(**optimized)
        return cls(pipeline)

    def codes(
        self,
        text: str,
        seed: int,
        *,
        language: str = "en",
        longest: int | None = None,
        speaker: Any = None,
    ) -> Any:
        """[4, frames] of a text, as `Pipeline.generate_atoks` makes them.

        Less what it makes of a single token: a frame of its own marks.
        """
        import torch

        torch.manual_seed(seed)
        t2s, s2a = self.pipeline.t2s, self.pipeline.s2a
        most = None if longest is None else longest + 1
        quiet = {"show_progress_bar": False}
        tokens = t2s.generate(text, cps=15, lang=language, N=most, **quiet)[0]
        speaker = self.pipeline.default_speaker if speaker is None else speaker
        codes = s2a.generate(tokens.clamp(max=512), speaker[None], **quiet)[0]
        return codes[:, : max(0, 3 * len(tokens) - 4)]

    def sound(self, text: str, seed: int, **options: Any) -> Any:
        """The whole sound of a text, as an array."""
        codes = self.codes(text, seed, **options).clamp(max=1023)
        if not codes.shape[1]:
            return np.zeros(0, np.float32)
        return self.pipeline.vocoder.decode(codes)[0].float().cpu().numpy().clip(-1, 1)
