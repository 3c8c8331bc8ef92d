"""Every setting, once: its name, its default, its meaning and what it may be.

`fusion/command_line.py` reads them from flags, environment variables and a file.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fusion.logs import FORMATS

WITHOUT_TOOLS = (
    "You only talk: you have no internet, weather, timers, alarms, music or devices, and you say "
    "so when asked for them."
)
"""What of the system prompt is not true of a model that is offered tools."""

SYSTEM_PROMPT = (
    "You are a friendly voice assistant. Answer in one or two short spoken sentences, "
    f"without lists, markup or emoji. {WITHOUT_TOOLS} If you do not know something, say so. "
    "Answer in the language of the question."
)

AUTO = "auto"


def _setting(
    default: Any,
    group: str,
    help: str,
    *,
    choices: Sequence[str] | None = None,
    environment: str | None = None,
    old: str | None = None,
    least: float | None = None,
    most: float = math.inf,
) -> Any:
    """Describe a field. `environment` is the original's name of its variable, `old` another name
    that it answers to.

    A number is `least` or more and at most `most`.
    """
    return field(
        default=default,
        metadata={
            "group": group,
            "help": help,
            "choices": choices,
            "environment": environment,
            "old": old,
            "range": None if least is None else (least, most),
        },
    )


def _scratch(*parts: str) -> str:
    return str(Path(os.environ.get("SCRATCH_SPACE", "/root/scratch-space"), *parts))


@dataclass(frozen=True)
class Settings:
    """What the program was told. Passed whole to each process."""

    # -- models -------------------------------------------------------------------------------
    stt_backend: str = _setting(
        AUTO,
        "models",
        "speech recogniser; auto takes the best that this machine has",
        choices=(AUTO, "faster_whisper", "tensorrt_llm"),
        old="transcriber",
    )
    whisper_model: str = _setting(
        "tiny.en",
        "models",
        "faster-whisper model: a name of the model table, a usual one (small, large-v3-turbo), a "
        "folder or a hub id",
    )
    llm_backend: str = _setting(
        AUTO,
        "models",
        "language model library; auto takes the best that this machine has",
        choices=(AUTO, "llama_cpp", "tensorrt_llm", "vllm", "openai_api"),
        old="language_model",
    )
    llm: str = _setting(
        AUTO,
        "models",
        "language model: a name of the model table, a GGUF file, a folder or a hub id; auto takes "
        "the one that Ollama, LM Studio, llama.cpp or vLLM has on this machine, else the best one "
        "of the table that this machine runs fast enough for speech",
    )
    discover: bool = _setting(
        True, "models", "look on this machine for a language model server, where --llm is auto"
    )
    tts_backend: str = _setting(
        AUTO,
        "models",
        "speech synthesis library; auto takes the best that this machine has",
        choices=(AUTO, "piper", "kokoro", "whisperspeech"),
        old="voice_library",
    )
    voice: str = _setting(
        "en_US-joe-medium",
        "models",
        "Piper voice: a name of the model table, a usual one (de_DE-thorsten-medium) or an .onnx "
        "file",
    )
    cache: str = _setting(
        str(Path(os.environ.get("XDG_CACHE_HOME", "~/.cache"), "whisperfusion")),
        "models",
        "folder that fetched models are kept in",
    )
    threads: int = _setting(
        0,
        "models",
        "CPU threads for all models together; 0 takes every core of the machine",
        least=0,
    )

    # -- TensorRT-LLM and other GPU models (the original's flags keep their names) ---------------
    whisper_tensorrt_path: str = _setting(
        _scratch("models", "whisper_small_en"),
        "GPU models",
        "folder of the Whisper TensorRT-LLM engines",
        environment="WHISPER_PATH",
    )
    phi: bool = _setting(False, "GPU models", "use the Phi engine")
    phi_tensorrt_path: str = _setting(
        _scratch("models", "Phi-3-mini-4k-instruct"),
        "GPU models",
        "folder of the Phi TensorRT-LLM engine",
        environment="PHI_PATH",
    )
    phi_tokenizer_path: str = _setting(
        _scratch("models", "Phi-3-mini-4k-instruct", "tokenizer"),
        "GPU models",
        "folder of the Phi tokenizer",
        environment="PHI_TOKENIZER_PATH",
    )
    phi_model_type: str = _setting(
        "Phi-3-mini-4k-instruct",
        "GPU models",
        "which Phi the engine holds; decides prompt format and stop tokens",
        choices=("phi-2", "Phi-3-mini-4k-instruct", "Phi-3-mini-128k-instruct"),
        environment="PHI_MODEL_TYPE",
    )
    mistral: bool = _setting(False, "GPU models", "use the Mistral engine")
    mistral_tensorrt_path: str = _setting(
        _scratch("models", "mistral"),
        "GPU models",
        "folder of the Mistral TensorRT-LLM engine",
        environment="MISTRAL_PATH",
    )
    mistral_tokenizer_path: str = _setting(
        "teknium/OpenHermes-2.5-Mistral-7B",
        "GPU models",
        "folder or hub id of the Mistral tokenizer",
        environment="MISTRAL_TOKENIZER_PATH",
    )
    kv_cache_fraction: float = _setting(
        0.4,
        "GPU models",
        "share of the free GPU memory that the language model's cache may take",
        least=0.01,
        most=0.95,
    )
    vllm_model: str = _setting(
        AUTO,
        "GPU models",
        "vLLM: a hub id or a folder, quantised (AWQ, GPTQ, FP8) or not; auto: the largest of its "
        "table that --llm_gpu_share has room for",
    )
    llm_gpu_share: float = _setting(
        0.5,
        "GPU models",
        "share of the GPU's memory that vLLM takes, the model's weights included",
        least=0.05,
        most=0.95,
    )
    openai_url: str = _setting(
        "",
        "GPU models",
        "address of an OpenAI-compatible server, as http://host:8000/v1; naming one chooses it",
    )
    openai_model: str = _setting(
        "", "GPU models", "model name for that server; empty: its first that chats"
    )
    openai_api_key: str = _setting("", "GPU models", "key for that server")
    whisperspeech_t2s: str = _setting(
        "collabora/whisperspeech:t2s-small-en+pl.model",
        "GPU models",
        "WhisperSpeech text-to-semantic model: repo:file or a path",
    )
    whisperspeech_s2a: str = _setting(
        "collabora/whisperspeech:s2a-q4-tiny-en+pl.model",
        "GPU models",
        "WhisperSpeech semantic-to-acoustic model: repo:file or a path",
    )
    whisperspeech_speaker: str = _setting(
        "", "GPU models", "file with a speaker embedding; empty: the library's own voice"
    )
    whisperspeech_instances: int = _setting(
        0,
        "GPU models",
        "how many clauses WhisperSpeech speaks at once, in one batch, 0.1 GB of GPU memory each; "
        "0 is as many as --max_clients",
        least=0,
    )
    torch_compile: bool = _setting(
        True,
        "GPU models",
        "compile WhisperSpeech and vLLM's models (GPU kernels, CUDA graphs)",
    )

    # -- conversation -------------------------------------------------------------------------
    system_prompt: str = _setting(
        SYSTEM_PROMPT,
        "conversation",
        "what the language model is told; the date and the time are added to it",
    )
    max_new_tokens: int = _setting(100, "conversation", "longest reply, in tokens", least=1)
    max_prompt_tokens: int = _setting(
        923, "conversation", "longest prompt, in tokens; older turns are left out to fit", least=64
    )
    max_tool_tokens: int = _setting(
        1024,
        "conversation",
        "more tokens where tools are offered: for their descriptions, calls and results; 0 offers "
        "none",
        least=0,
    )
    mcp_servers: str = _setting(
        "",
        "conversation",
        "comma-separated MCP servers whose tools the language model may call, each an address "
        "(https://host/mcp) or a command that starts one (uvx mcp-server-time)",
    )
    tool_timeout: float = _setting(
        20.0,
        "conversation",
        "seconds that a tool may take before the model goes on without its result",
        least=0.1,
    )
    temperature: float = _setting(
        0.0, "conversation", "0 is greedy: the same reply each time", least=0
    )
    top_p: float = _setting(
        1.0, "conversation", "nucleus sampling, for a temperature above 0", least=0.01, most=1
    )
    reply_timeout: float = _setting(
        30.0,
        "conversation",
        "seconds without any progress after which a reply counts as failed",
        least=1,
    )

    # -- listening ----------------------------------------------------------------------------
    vad_threshold: float = _setting(
        0.5, "listening", "speech probability that counts as speech", least=0.01, most=1
    )
    min_utterance: float = _setting(
        0.16, "listening", "seconds of speech below which a sound is no utterance", least=0
    )
    finalize_after: float = _setting(
        8.0,
        "listening",
        "seconds of speech after which a pause finalizes what was said; it is not transcribed "
        "again",
        least=1,
        old="settle_after",
    )
    longest_segment: float = _setting(
        24.0,
        "listening",
        "seconds of speech without a pause that are kept to be transcribed at once; at most 30, "
        "Whisper's window",
        least=5,
        most=30,
        old="longest_piece",
    )
    partial_interval: float = _setting(
        0.5, "listening", "seconds between live transcripts while a person speaks", least=0.05
    )
    speculative_generation: bool = _setting(
        True,
        "listening",
        "prepare the reply in the first short silence, before the turn is over",
        old="work_ahead",
    )
    provisional_silence: float = _setting(
        0.03, "listening", "seconds of silence after which the reply is prepared", least=0
    )
    smart_turn: bool = _setting(
        True, "listening", "predict from voice and words whether the person is done"
    )
    wait_done: float = _setting(
        0.4,
        "listening",
        "seconds of silence that end a turn when voice and words say it is over",
        least=0,
    )
    wait_unsure: float = _setting(
        0.9, "listening", "the same when they disagree, or when smart_turn is off", least=0
    )
    wait_unfinished: float = _setting(
        1.6, "listening", "the same when both say that more will come", least=0
    )
    wait_longest: float = _setting(
        2.5, "listening", "no turn stays open longer than this", least=0.1
    )

    # -- being interrupted ----------------------------------------------------------------------
    barge_in: bool = _setting(True, "interruption", "let people speak over the reply")
    barge_in_speech: float = _setting(
        0.3, "interruption", "seconds of speech that an interruption needs", least=0
    )
    buffer_lead: float = _setting(
        0.6,
        "interruption",
        "seconds of sound a client is sent before it is due to be played",
        least=0.05,
        old="sound_ahead",
    )

    # -- serving ------------------------------------------------------------------------------
    host: str = _setting(
        "127.0.0.1",
        "serving",
        "address to listen on: this machine alone; 0.0.0.0 or :: opens the ports to others",
    )
    transcription_port: int = _setting(
        6006, "serving", "WebSocket port that takes audio", least=0, most=65535
    )
    speech_port: int = _setting(
        8888, "serving", "WebSocket port that sends speech", least=0, most=65535
    )
    web_port: int = _setting(
        8000, "serving", "port of the web page; 0 serves none", least=0, most=65535
    )
    wyoming_port: int = _setting(
        0,
        "serving",
        "port that serves transcription and voice to Home Assistant by the Wyoming protocol, which "
        "knows no token: 10300 is usual; 0 serves none",
        least=0,
        most=65535,
    )
    wyoming_host: str = _setting(
        "127.0.0.1",
        "serving",
        "address that the Wyoming port listens on: this machine alone; 0.0.0.0 opens it to others",
    )
    max_clients: int = _setting(
        4, "serving", "people served at once; more are told to WAIT", least=1
    )
    admission: str = _setting(
        AUTO,
        "serving",
        "measured: no more people than this machine is found to serve well at its start, and at "
        "most --max_clients; fixed: --max_clients; auto: measured unless --max_clients is given",
        choices=(AUTO, "measured", "fixed"),
    )
    max_connections: int = _setting(
        256,
        "serving",
        "WebSockets that each port has open at once; fewer where the system allows too few files",
        least=1,
    )
    max_connections_per_address: int = _setting(
        32, "serving", "how many of them one client address may have", least=1
    )
    max_handshakes_per_minute: int = _setting(
        120, "serving", "how many of them one client address may open in a minute", least=1
    )
    max_connection_time: float = _setting(600.0, "serving", "seconds a client may stay", least=1)
    max_silence: float = _setting(
        60.0,
        "serving",
        "seconds without a word after which a client gives its place to one who waits",
        least=1,
    )
    drain_time: float = _setting(
        5.0,
        "serving",
        "seconds that turns under way have to finish after Ctrl-C or SIGTERM; a second one ends "
        "at once",
        least=0,
    )
    handshake_timeout: float = _setting(
        10.0, "serving", "seconds to send the headers in, and then the first message", least=0.1
    )
    unread_timeout: float = _setting(
        10.0,
        "serving",
        "seconds beyond its playing time that sound may stay unread before its client is "
        "disconnected",
        least=0.5,
    )
    audio_burst: float = _setting(
        30.0,
        "serving",
        "seconds of audio that are taken from a client as fast as it sends",
        least=1,
    )
    audio_rate: float = _setting(
        4.0, "serving", "how much faster than real time more of it is taken", least=1
    )
    max_audio: float = _setting(
        1800.0, "serving", "seconds of audio that one session may send", least=1
    )
    max_message_bytes: int = _setting(
        1 << 20, "serving", "largest message a client may send", least=1024
    )
    allowed_origins: str = _setting(
        "",
        "serving",
        "comma-separated origins whose pages may connect, or * for any; "
        "empty: pages of the host that the socket itself is on",
    )
    allowed_hosts: str = _setting(
        "",
        "serving",
        "comma-separated names of this server in its pages' addresses, besides those of the "
        "machine; * for any",
    )
    trusted_proxies: str = _setting(
        "", "serving", "comma-separated addresses or networks whose X-Forwarded-For is believed"
    )
    token: str = _setting("", "serving", "secret that every client must send; empty: none")
    token_file: str = _setting(
        "", "serving", "file of tokens, one in each line after its name, each of which lets in"
    )
    tls: bool = _setting(False, "serving", "serve https and wss, with a certificate made here")
    tls_certificate: str = _setting("", "serving", "certificate file (PEM) for --tls")
    tls_key: str = _setting("", "serving", "key file (PEM) for --tls")
    log_level: str = _setting(
        "info", "serving", "how much is logged", choices=("debug", "info", "warning", "error")
    )
    log_format: str = _setting(
        "text", "serving", "how it is logged: for a person, or as JSON lines", choices=FORMATS
    )
    record: str = _setting(
        "",
        "recording",
        "folder that every session is recorded in, with all that is said and answered; empty: "
        "nothing is recorded",
    )
    record_limit: int = _setting(
        1024, "recording", "megabytes that the folder may hold; the oldest give way", least=8
    )
    config: str = _setting(
        "",
        "settings",
        "YAML file of settings; empty: whisperfusion.yaml in the working folder, else in "
        "~/.config/whisperfusion",
    )

    @property
    def cache_folder(self) -> Path:
        return Path(self.cache).expanduser()

    @property
    def mcp_server_list(self) -> tuple[str, ...]:
        """The MCP servers, each an address or a command line."""
        return tuple(each.strip() for each in self.mcp_servers.split(",") if each.strip())

    def prompt_tokens(self, *, tools: bool) -> int:
        """The longest prompt, with tools in it or without."""
        return self.max_prompt_tokens + (self.max_tool_tokens if tools else 0)

    @property
    def cpu_threads(self) -> int:
        """The thread budget of all models together."""
        return self.threads or len(os.sched_getaffinity(0))

    @property
    def measures_capacity(self) -> bool:
        """Whether people are let in by what the machine was found to serve."""
        return self.admission != "fixed"

    @property
    def language_model_threads(self) -> int:
        """The language model's share of them.

        llama.cpp's threads wait for one another by spinning. Where each has no core to itself,
        more of them are slower: on two busy cores a first token took 0.3 s with one thread and
        2 to 6 s with two.
        """
        return max(1, self.cpu_threads // 2)
