"""Every setting, once: its name, its default, its meaning and what it may be.

Those of the models are in `model_settings.py`. `command_line.py` reads all of them from flags,
environment variables and a file.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from fusion.logs import FORMATS
from fusion.model_settings import ModelSettings
from fusion.setting_field import AUTO, setting

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


@dataclass(frozen=True)
class Settings(ModelSettings):
    """What the program was told. Passed whole to each process."""

    # -- conversation -------------------------------------------------------------------------
    system_prompt: str = setting(
        SYSTEM_PROMPT,
        "conversation",
        "what the language model is told; the date and the time are added to it",
    )
    max_new_tokens: int = setting(100, "conversation", "longest reply, in tokens", least=1)
    max_prompt_tokens: int = setting(
        923, "conversation", "longest prompt, in tokens; older turns are left out to fit", least=64
    )
    max_tool_tokens: int = setting(
        1024,
        "conversation",
        "more tokens where tools are offered: for their descriptions, calls and results; 0 offers "
        "none",
        least=0,
    )
    mcp_servers: str = setting(
        "",
        "conversation",
        "comma-separated MCP servers whose tools the language model may call, each an address "
        "(https://host/mcp) or a command that starts one (uvx mcp-server-time)",
    )
    tool_timeout: float = setting(
        20.0,
        "conversation",
        "seconds that a tool may take before the model goes on without its result",
        least=0.1,
    )
    temperature: float = setting(
        0.0, "conversation", "0 is greedy: the same reply each time", least=0
    )
    top_p: float = setting(
        1.0, "conversation", "nucleus sampling, for a temperature above 0", least=0.01, most=1
    )
    reply_timeout: float = setting(
        30.0,
        "conversation",
        "seconds without any progress after which a reply counts as failed",
        least=1,
    )

    # -- listening ----------------------------------------------------------------------------
    vad_threshold: float = setting(
        0.5, "listening", "speech probability that counts as speech", least=0.01, most=1
    )
    min_utterance: float = setting(
        0.16, "listening", "seconds of speech below which a sound is no utterance", least=0
    )
    finalize_after: float = setting(
        8.0,
        "listening",
        "seconds of speech after which a pause finalizes what was said; it is not transcribed "
        "again",
        least=1,
        old="settle_after",
    )
    longest_segment: float = setting(
        24.0,
        "listening",
        "seconds of speech without a pause that are kept to be transcribed at once; at most 30, "
        "Whisper's window",
        least=5,
        most=30,
        old="longest_piece",
    )
    partial_interval: float = setting(
        0.5, "listening", "seconds between live transcripts while a person speaks", least=0.05
    )
    speculative_generation: bool = setting(
        True,
        "listening",
        "prepare the reply in the first short silence, before the turn is over",
        old="work_ahead",
    )
    provisional_silence: float = setting(
        0.03, "listening", "seconds of silence after which the reply is prepared", least=0
    )
    smart_turn: bool = setting(
        True, "listening", "predict from voice and words whether the person is done"
    )
    wait_done: float = setting(
        0.4,
        "listening",
        "seconds of silence that end a turn when voice and words say it is over",
        least=0,
    )
    wait_unsure: float = setting(
        0.9, "listening", "the same when they disagree, or when smart_turn is off", least=0
    )
    wait_unfinished: float = setting(
        1.6, "listening", "the same when both say that more will come", least=0
    )
    wait_longest: float = setting(
        2.5, "listening", "no turn stays open longer than this", least=0.1
    )

    # -- being interrupted ----------------------------------------------------------------------
    barge_in: bool = setting(True, "interruption", "let people speak over the reply")
    barge_in_speech: float = setting(
        0.3, "interruption", "seconds of speech that an interruption needs", least=0
    )
    buffer_lead: float = setting(
        0.6,
        "interruption",
        "seconds of sound a client is sent before it is due to be played",
        least=0.05,
        old="sound_ahead",
    )

    # -- serving ------------------------------------------------------------------------------
    host: str = setting(
        "127.0.0.1",
        "serving",
        "address to listen on: this machine alone; 0.0.0.0 or :: opens the ports to others",
    )
    transcription_port: int = setting(
        6006, "serving", "WebSocket port that takes audio", least=0, most=65535
    )
    speech_port: int = setting(
        8888, "serving", "WebSocket port that sends speech", least=0, most=65535
    )
    web_port: int = setting(
        8000, "serving", "port of the web page; 0 serves none", least=0, most=65535
    )
    wyoming_port: int = setting(
        0,
        "serving",
        "port that serves transcription and voice to Home Assistant by the Wyoming protocol, which "
        "knows no token: 10300 is usual; 0 serves none",
        least=0,
        most=65535,
    )
    wyoming_host: str = setting(
        "127.0.0.1",
        "serving",
        "address that the Wyoming port listens on: this machine alone; 0.0.0.0 opens it to others",
    )
    max_clients: int = setting(
        4, "serving", "people served at once; more are told to WAIT", least=1
    )
    admission: str = setting(
        AUTO,
        "serving",
        "measured: no more people than this machine is found to serve well at its start, and at "
        "most --max_clients; fixed: --max_clients; auto: measured unless --max_clients is given",
        choices=(AUTO, "measured", "fixed"),
    )
    max_connections: int = setting(
        256,
        "serving",
        "WebSockets that each port has open at once; fewer where the system allows too few files",
        least=1,
    )
    max_connections_per_address: int = setting(
        32, "serving", "how many of them one client address may have", least=1
    )
    max_handshakes_per_minute: int = setting(
        120, "serving", "how many of them one client address may open in a minute", least=1
    )
    max_connection_time: float = setting(600.0, "serving", "seconds a client may stay", least=1)
    max_silence: float = setting(
        60.0,
        "serving",
        "seconds without a word after which a client gives its place to one who waits",
        least=1,
    )
    drain_time: float = setting(
        5.0,
        "serving",
        "seconds that turns under way have to finish after Ctrl-C or SIGTERM; a second one ends "
        "at once",
        least=0,
    )
    handshake_timeout: float = setting(
        10.0, "serving", "seconds to send the headers in, and then the first message", least=0.1
    )
    unread_timeout: float = setting(
        10.0,
        "serving",
        "seconds beyond its playing time that sound may stay unread before its client is "
        "disconnected",
        least=0.5,
    )
    audio_burst: float = setting(
        30.0,
        "serving",
        "seconds of audio that are taken from a client as fast as it sends",
        least=1,
    )
    audio_rate: float = setting(
        4.0, "serving", "how much faster than real time more of it is taken", least=1
    )
    max_audio: float = setting(
        1800.0, "serving", "seconds of audio that one session may send", least=1
    )
    max_message_bytes: int = setting(
        1 << 20, "serving", "largest message a client may send", least=1024
    )
    allowed_origins: str = setting(
        "",
        "serving",
        "comma-separated origins whose pages may connect, or * for any; "
        "empty: pages of the host that the socket itself is on",
    )
    allowed_hosts: str = setting(
        "",
        "serving",
        "comma-separated names of this server in its pages' addresses, besides those of the "
        "machine; * for any",
    )
    trusted_proxies: str = setting(
        "", "serving", "comma-separated addresses or networks whose X-Forwarded-For is believed"
    )
    token: str = setting("", "serving", "secret that every client must send; empty: none")
    token_file: str = setting(
        "", "serving", "file of tokens, one in each line after its name, each of which lets in"
    )
    tls: bool = setting(False, "serving", "serve https and wss, with a certificate made here")
    tls_certificate: str = setting("", "serving", "certificate file (PEM) for --tls")
    tls_key: str = setting("", "serving", "key file (PEM) for --tls")
    log_level: str = setting(
        "info", "serving", "how much is logged", choices=("debug", "info", "warning", "error")
    )
    log_format: str = setting(
        "text", "serving", "how it is logged: for a person, or as JSON lines", choices=FORMATS
    )
    record: str = setting(
        "",
        "recording",
        "folder that every session is recorded in, with all that is said and answered; empty: "
        "nothing is recorded",
    )
    record_limit: int = setting(
        1024, "recording", "megabytes that the folder may hold; the oldest give way", least=8
    )
    config: str = setting(
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
