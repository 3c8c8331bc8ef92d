"""WhisperFusion: speak, and your own computer answers aloud.

Starts and watches the three servers and serves the web page. `--help-all` lists every setting.
"""

from __future__ import annotations

import sys
import threading


def main() -> int:
    """Run until Ctrl-C, SIGTERM or a fault that a restart cannot mend; the exit status."""
    # Imported here: every spawned service imports this module, and needs nothing of it.
    import llm_service
    import tts_service
    from fusion import logs, tasks
    from fusion.command_line import parse
    from fusion.errors import FusionError
    from fusion.selection import choose, survey
    from fusion.serving import tls
    from fusion.serving.banner import startup_banner
    from fusion.serving.web import WebServer
    from fusion.status import Service
    from fusion.supervisor import Supervisor
    from whisper_live import server

    settings = parse()
    logs.configure(settings.log_level, "main")
    threading.excepthook = tasks.end_process_for_thread
    try:
        settings = tls.with_certificate(settings)
        choice = choose(settings, survey(settings))
        supervisor = Supervisor(
            settings,
            choice,
            {
                Service.VOICE: tts_service.run,
                Service.TRANSCRIPTION: server.run,
                Service.LANGUAGE_MODEL: llm_service.run,
            },
        )
        web = WebServer(settings, supervisor.links.status)
        if settings.web_port:
            web.start()
            print(startup_banner(settings, web.port), flush=True)
        try:
            return supervisor.run()
        finally:
            web.stop()
    except FusionError as error:
        print(error, file=sys.stderr)
        return error.exit_status


if __name__ == "__main__":
    sys.exit(main())
