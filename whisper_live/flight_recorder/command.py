"""`whisperfusion replay FILE`: a recorded session again, and where it differs."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fusion import command_line
from fusion.errors import FusionError
from whisper_live.flight_recorder import live
from whisper_live.flight_recorder.comparison import Turn, differing_turn, turns
from whisper_live.flight_recorder.format import Recording
from whisper_live.flight_recorder.replay import load, replay

SAME, DIFFERS = 0, 1


def main(arguments: Sequence[str], serve: live.Serve) -> int:
    """Run a recording again; 0 when it goes as it went then, 1 when it differs, 2 when it cannot be
    read. What differs first is said on standard output."""
    options, rest = _parser().parse_known_args(arguments)
    changes = command_line.flags(rest)
    try:
        recording = load(options.file)
        _introduce(recording)
        if options.real:
            return _with_real_models(recording, changes, serve)
        return _with_recorded_models(recording, changes)
    except FusionError as error:
        print(error, file=sys.stderr)
        return error.exit_status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="whisperfusion replay",
        description="Run a recorded session again and say where it differs. Exits with 0 when it "
        "goes as it went then, 1 when it differs, 2 when the file cannot be read.",
        epilog="Settings (--wait_done 0.6) are those of the recording, but for those named here.",
        allow_abbrev=False,
    )
    parser.add_argument("file", help="what --record wrote")
    parser.add_argument(
        "--real",
        action="store_true",
        help="with the real models, at the speed at which it was said; else what they said then "
        "stands in for them, and all of it takes a moment",
    )
    return parser


def _introduce(recording: Recording) -> None:
    about = recording.header
    cut = "" if recording.whole else ", cut off"
    print(
        f"Session {about.get('session')} of {about.get('began')}, by WhisperFusion "
        f"{about.get('program')}: {len(recording.entries)} entries{cut}."
    )


def _with_recorded_models(recording: Recording, changes: dict[str, Any]) -> int:
    result = replay(recording, changes)
    if result.first is None:
        print(f"The same in all {len(result.turns)} turns.")
        return SAME
    print(f"Differs {len(result.differences)} times, first at {result.first}")
    return DIFFERS


def _with_real_models(recording: Recording, changes: dict[str, Any], serve: live.Serve) -> int:
    before = turns(recording.entries)
    with tempfile.TemporaryDirectory() as folder:
        after = turns(live.play(recording, changes, serve, Path(folder)).entries)
    for one, other in zip(before, after, strict=False):
        print(f"turn {one.number}: first sound after {_sound(one)} ms then, {_sound(other)} ms now")
    difference = differing_turn(before, after)
    if difference is None:
        print(f"The same words in all {len(before)} turns.")
        return SAME
    print(f"Differs first at {difference}")
    return DIFFERS


def _sound(turn: Turn) -> str:
    return "-" if turn.first_sound_ms is None else str(turn.first_sound_ms)
