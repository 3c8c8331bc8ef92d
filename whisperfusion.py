"""WhisperFusion: speak, and your own computer answers aloud.

Starts and watches the three services and the page server. `--help-all` lists every setting.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fusion.settings import Settings
    from fusion.status import ServiceStatus

# Nothing else is imported here: every spawned service imports this module, and needs nothing of it.

OLDEST_PYTHON = (3, 10)
OURS = (
    *("fusion", "language_models", "llm_service", "realtime"),
    *("tts_service", "voices", "web_service", "whisper_live", "wyoming_server"),
)


def main() -> int:
    """Run until Ctrl-C, SIGTERM or a fault that a restart cannot mend; the exit status.

    Where the packages are missing, one sentence says what to run instead.
    """
    if sys.version_info < OLDEST_PYTHON:
        return _wrong_python(
            f"{sys.executable} is Python {sys.version.split()[0]}, which is too old"
        )
    try:
        return replay(sys.argv[2:]) if sys.argv[1:2] == ["replay"] else run()
    except KeyboardInterrupt:  # before the supervisor listens for it, or after
        return 130
    except ModuleNotFoundError as error:
        name = str(error.name).partition(".")[0]
        if name in OURS:
            raise
        return _wrong_python(f"{sys.executable} has no package {name}")


def _wrong_python(reason: str) -> int:
    folder = Path(__file__).resolve().parent
    if Path(folder, "Makefile").is_file():
        remedy = f"start WhisperFusion with `make run` in {folder}, which installs what it needs"
    else:
        remedy = "install whisperfusion again with pip, for Python 3.10 to 3.13"
    print(f"{reason}: {remedy}.", file=sys.stderr)
    return 1


def replay(arguments: Sequence[str]) -> int:
    """`whisperfusion replay`: run a recorded session again; the exit status."""
    from whisper_live.flight_recorder import command

    return command.main(arguments, serve)


def run() -> int:
    """Run, where everything is installed; the exit status."""
    from fusion.command_line import parse

    return serve(parse())


def serve(settings: Settings, look: Callable[[ServiceStatus], None] | None = None) -> int:
    """Run by these settings; the exit status.

    `look` is called now and then with what the services are doing. Without, the terminal is told.
    """
    import llm_service
    import tts_service
    import web_service
    from fusion import __version__, logs, model_servers, tasks, tracing
    from fusion.checks import check
    from fusion.errors import FusionError
    from fusion.selection import choose, discoverable, survey, with_server
    from fusion.serving import tls
    from fusion.serving.banner import StartupReport, say
    from fusion.status import Service
    from fusion.supervisor import Supervisor
    from whisper_live import server
    from whisper_live.flight_recorder import recorder

    logs.configure(settings.log_level, "main", settings.log_format)
    threading.excepthook = tasks.end_process_for_thread
    try:
        machine = survey(settings)
        if discoverable(settings, machine):
            machine = replace(machine, server=model_servers.find())
        choice = choose(settings, machine)
        settings = with_server(settings, choice, machine)
        check(settings, choice)
        settings = tls.with_certificate(settings)
        tls.ssl_context(settings)  # refuses a certificate that cannot be used
        source = f", settings from {settings.config}" if settings.config else ""
        say("\n".join([f"WhisperFusion {__version__}{source}", *choice.lines(settings)]))
        if sentence := tracing.trouble(os.environ):
            print(sentence, file=sys.stderr)
        if settings.record:
            say(recorder.notice(settings))
        services = {
            Service.VOICE: tts_service.run,
            Service.TRANSCRIPTION: server.run,
            Service.LANGUAGE_MODEL: llm_service.run,
        }
        if settings.web_port:
            services[Service.WEB] = web_service.run
        supervisor = Supervisor(settings, choice, services)
        status = supervisor.links.status
        report = StartupReport(settings, status, settings.web_port)
        return supervisor.run(report.update if look is None else lambda: look(status))
    except FusionError as error:
        print(error, file=sys.stderr)
        return error.exit_status


if __name__ == "__main__":
    sys.exit(main())
