"""The settings of the models; `settings.py` has the others and all together."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from fusion.setting_field import AUTO, setting


def _scratch(*parts: str) -> str:
    return str(Path(os.environ.get("SCRATCH_SPACE", "/root/scratch-space"), *parts))


@dataclass(frozen=True)
class ModelSettings:
    """Which models, where they are, and how much of the machine they take."""

    # -- models -------------------------------------------------------------------------------
    stt_backend: str = setting(
        AUTO,
        "models",
        "speech recogniser; auto takes the best that this machine has",
        choices=(AUTO, "faster_whisper", "tensorrt_llm"),
        old="transcriber",
    )
    whisper_model: str = setting(
        "tiny.en",
        "models",
        "faster-whisper model: a name of the model table, a usual one (small, large-v3-turbo), a "
        "folder or a hub id",
    )
    llm_backend: str = setting(
        AUTO,
        "models",
        "language model library; auto takes the best that this machine has",
        choices=(AUTO, "llama_cpp", "tensorrt_llm", "vllm", "openai_api"),
        old="language_model",
    )
    llm: str = setting(
        AUTO,
        "models",
        "language model: a name of the model table, a GGUF file, a folder or a hub id; auto takes "
        "the one that Ollama, LM Studio, llama.cpp or vLLM has on this machine, else the best one "
        "of the table that this machine runs fast enough for speech",
    )
    discover: bool = setting(
        True, "models", "look on this machine for a language model server, where --llm is auto"
    )
    tts_backend: str = setting(
        AUTO,
        "models",
        "speech synthesis library; auto takes the best that this machine has",
        choices=(AUTO, "piper", "kokoro", "whisperspeech"),
        old="voice_library",
    )
    voice: str = setting(
        "en_US-joe-medium",
        "models",
        "Piper voice: a name of the model table, a usual one (de_DE-thorsten-medium) or an .onnx "
        "file",
    )
    cache: str = setting(
        str(Path(os.environ.get("XDG_CACHE_HOME", "~/.cache"), "whisperfusion")),
        "models",
        "folder that fetched models are kept in",
    )
    threads: int = setting(
        0,
        "models",
        "CPU threads for all models together; 0 takes every core of the machine",
        least=0,
    )

    # -- TensorRT-LLM and other GPU models (the original's flags keep their names) ---------------
    whisper_tensorrt_path: str = setting(
        _scratch("models", "whisper_small_en"),
        "GPU models",
        "folder of the Whisper TensorRT-LLM engines",
        environment="WHISPER_PATH",
    )
    phi: bool = setting(False, "GPU models", "use the Phi engine")
    phi_tensorrt_path: str = setting(
        _scratch("models", "Phi-3-mini-4k-instruct"),
        "GPU models",
        "folder of the Phi TensorRT-LLM engine",
        environment="PHI_PATH",
    )
    phi_tokenizer_path: str = setting(
        _scratch("models", "Phi-3-mini-4k-instruct", "tokenizer"),
        "GPU models",
        "folder of the Phi tokenizer",
        environment="PHI_TOKENIZER_PATH",
    )
    phi_model_type: str = setting(
        "Phi-3-mini-4k-instruct",
        "GPU models",
        "which Phi the engine holds; decides prompt format and stop tokens",
        choices=("phi-2", "Phi-3-mini-4k-instruct", "Phi-3-mini-128k-instruct"),
        environment="PHI_MODEL_TYPE",
    )
    mistral: bool = setting(False, "GPU models", "use the Mistral engine")
    mistral_tensorrt_path: str = setting(
        _scratch("models", "mistral"),
        "GPU models",
        "folder of the Mistral TensorRT-LLM engine",
        environment="MISTRAL_PATH",
    )
    mistral_tokenizer_path: str = setting(
        "teknium/OpenHermes-2.5-Mistral-7B",
        "GPU models",
        "folder or hub id of the Mistral tokenizer",
        environment="MISTRAL_TOKENIZER_PATH",
    )
    kv_cache_fraction: float = setting(
        0.4,
        "GPU models",
        "share of the free GPU memory that the language model's cache may take",
        least=0.01,
        most=0.95,
    )
    vllm_model: str = setting(
        AUTO,
        "GPU models",
        "vLLM: a hub id or a folder, quantised (AWQ, GPTQ, FP8) or not; auto: the largest of its "
        "table that --llm_gpu_share has room for",
    )
    llm_gpu_share: float = setting(
        0.5,
        "GPU models",
        "share of the GPU's memory that vLLM takes, the model's weights included",
        least=0.05,
        most=0.95,
    )
    openai_url: str = setting(
        "",
        "GPU models",
        "address of an OpenAI-compatible server, as http://host:8000/v1; naming one chooses it",
    )
    openai_model: str = setting(
        "", "GPU models", "model name for that server; empty: its first that chats"
    )
    openai_api_key: str = setting("", "GPU models", "key for that server")
    whisperspeech_t2s: str = setting(
        "collabora/whisperspeech:t2s-small-en+pl.model",
        "GPU models",
        "WhisperSpeech text-to-semantic model: repo:file or a path",
    )
    whisperspeech_s2a: str = setting(
        "collabora/whisperspeech:s2a-q4-tiny-en+pl.model",
        "GPU models",
        "WhisperSpeech semantic-to-acoustic model: repo:file or a path",
    )
    whisperspeech_speaker: str = setting(
        "", "GPU models", "file with a speaker embedding; empty: the library's own voice"
    )
    whisperspeech_instances: int = setting(
        0,
        "GPU models",
        "how many clauses WhisperSpeech speaks at once, in one batch, 0.1 GB of GPU memory each; "
        "0 is as many as --max_clients",
        least=0,
    )
    torch_compile: bool = setting(
        True,
        "GPU models",
        "compile WhisperSpeech and vLLM's models (GPU kernels, CUDA graphs)",
    )
