"""The flight recorder: what is kept of a session, and the session again from that."""

from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fusion.errors import ConfigurationError
from fusion.messages import Message, SessionStarted
from fusion.settings import Settings
from tests.session_world import World
from whisper_live.flight_recorder import recorder, values
from whisper_live.flight_recorder.comparison import (
    turns,
)
from whisper_live.flight_recorder.format import (
    Recording,
    decode,
)
from whisper_live.flight_recorder.recorder import RecordingFolder, recorded_settings
from whisper_live.flight_recorder.replay import load, replay, settings_of
from whisper_live.followed_session import INPUTS, FollowedSession
from whisper_live.handshake import Changes, OwnWords, Wanted, parse_command, parse_hello
from whisper_live.session import Session

HELLO = parse_hello('{"uid": "me", "stream": true, "token": "artichoke"}', {"en"})


class RecordedWorld(World):
    """A world whose session is recorded in a folder, as the server does it."""

    def __init__(self, folder: Path, most_bytes: int = 1 << 30, **options: Any) -> None:
        super().__init__(**options)
        settings = Settings(**{k: v for k, v in options.items() if k in vars(Settings())})
        self.folder = RecordingFolder(folder, most_bytes)
        recording = self.folder.begin("s", HELLO, settings)
        assert recording is not None
        self.recording = recording
        self.session = FollowedSession("s", self.session._policy, (), [recording])

    def end(self) -> None:
        assert isinstance(self.session, FollowedSession)
        self.session.close(self.now)

    def note(self, what: str, message: Message | None = None) -> None:
        assert isinstance(self.session, FollowedSession)
        self.session.note(what, message)


def converse(world: RecordedWorld) -> None:
    """Two turns, the second over the first's reply, then one that is typed."""
    world.speak(2.0)
    world.silence(2.0)
    world.speak(1.5, "no I mean tomorrow please")
    world.silence(5.0)
    world.take(world.session.say("And the day after?", world.now))
    world.silence(4.0)


def only(folder: Path) -> Path:
    [path] = folder.iterdir()
    return path


def test_a_recorded_session_goes_again_as_it_went(tmp_path: Path) -> None:
    world = RecordedWorld(tmp_path)
    converse(world)
    world.end()
    recording = load(only(tmp_path))
    assert recording.whole
    again = replay(recording)
    assert again.first is None
    assert [fields for _, fields in again.told] == json.loads(json.dumps(world.told))
    assert [m for _, m in again.asked] == world.to_model
    assert [(turn.number, turn.ending) for turn in again.turns] == [
        (1, "interrupted"),
        (2, "complete"),
        (3, "complete"),
    ]
    assert again.turns[2].question == "And the day after?"
    assert again.turns[2].answer == "answer 3.1"
    assert turns(recording.entries) == again.turns


def test_another_program_differs_and_says_where_first(tmp_path: Path) -> None:
    world = RecordedWorld(tmp_path)
    converse(world)
    world.end()
    changed = replay(load(only(tmp_path)), {"wait_done": 0.7})
    assert changed.first is not None
    assert changed.first.now == "nothing"  # the commit, which waits for longer
    committed = world.commits()[0]
    assert committed.text in changed.first.recorded
    began = next(decode(only(tmp_path).open("rb"))).fields["clock"]
    assert began > 0
    assert 2.3 < changed.first.at < 2.7
    assert str(changed.first).startswith(f"{changed.first.at:.3f} s, ")


def test_all_that_a_session_may_be_told_is_recorded() -> None:
    """A method that changes a session and is not in the list would be missing from recordings."""
    reads = {"history", "finished", "idle", "backlogged", "position", "identity", "language"}
    public = {name for name in vars(Session) if not name.startswith("_")}
    assert public - reads == set(INPUTS)


def test_every_kind_of_input_and_message_comes_back(tmp_path: Path) -> None:
    world = RecordedWorld(tmp_path)
    aside = parse_command(
        '{"command": "respond", "id": "x", "aside": true, "max_tokens": 9, "speak": false,'
        ' "history": [{"role": "user", "content": "Hi."}]}'
    )
    changes = parse_command(
        '{"command": "configure", "turn_detection": "none", "wait": 0.3,'
        ' "history": [{"role": "user", "content": "Hi."}]}'
    )
    assert isinstance(aside.wanted, Wanted)
    assert isinstance(changes.changes, Changes)
    session = world.session
    world.speak(1.0)
    world.silence(3.0)
    world.take(session.respond(aside.wanted, world.now))
    world.speak(1.0)
    world.take(session.configure(changes.changes))
    world.take(session.clear(world.now))
    world.speak(1.0)
    world.take(session.end_turn(world.now))
    world.silence(1.0)
    world.take(session.language_model_restarted(world.now))
    world.take(session.voice_restarted(world.now))
    world.take(session.interrupt(world.now, 7))
    world.take(session.read_aloud(OwnWords("tale", "Once upon a time.", last=True), world.now))
    world.speak(1.0)
    world.take(session.end_of_audio(world.now))
    world.silence(3.0)
    world.end()
    recording = load(only(tmp_path))
    names = {entry.fields.get("in") for entry in recording.entries}
    assert names >= set(INPUTS) - {"live_dropped", "say"}
    again = replay(recording)
    assert again.first is None
    assert [m for _, m in again.asked] == world.to_model


def test_live_transcripts_that_give_way_are_recorded(tmp_path: Path) -> None:
    world = RecordedWorld(tmp_path)
    world._transcribe = lambda event: (  # type: ignore[method-assign]
        world.session.live_dropped(event)
        if event.revision is None
        else World._transcribe(world, event)
    )
    world.speak(2.0)
    world.silence(3.0)
    recording = load(only(tmp_path))
    dropped = [e for e in recording.entries if e.fields.get("in") == "live_dropped"]
    assert all(entry.fields["given"]["job"].startswith("live text of 1.") for entry in dropped)
    assert len(dropped) > 1
    assert replay(recording).first is None


def test_frames_and_times_are_exact(tmp_path: Path) -> None:
    world = RecordedWorld(tmp_path)
    frame = np.random.default_rng(1).normal(0, 0.1, 512).astype(np.float32)
    now = 12345.678901234567
    world.session.hear(frame, 0.1 + 0.2, now)
    [entry] = load(only(tmp_path)).entries
    arguments = values.arguments(entry, {})
    assert np.array_equal(arguments["frame"], frame)
    assert (arguments["probability"], arguments["now"]) == (0.1 + 0.2, now)


def test_the_introduction_is_kept_without_its_key(tmp_path: Path) -> None:
    world = RecordedWorld(tmp_path)
    converse(world)
    history = world.session.history()
    started = SessionStarted("s", "a secret", "127.0.0.1", "en", "", "", history)
    world.note("introduced", started)
    world.note("the connection is lost")
    raw = only(tmp_path).read_bytes()
    assert b"artichoke" not in raw  # the token of the handshake
    assert b"a secret" not in raw
    recording = load(only(tmp_path))
    assert not recording.whole
    assert [e.fields["note"] for e in recording.entries if "note" in e.fields] == [
        "introduced",
        "the connection is lost",
    ]
    assert replay(recording).first is None
    forgot = started.__class__("s", "", "127.0.0.1", "en", "", "", history[:-1])
    world.note("introduced", forgot)
    first = replay(load(only(tmp_path))).first
    assert first is not None
    assert first.where == "the conversation so far"


def test_what_a_process_did_last_is_in_the_file(tmp_path: Path) -> None:
    """What it is told is written before the session takes it: the fault itself is recorded."""
    world = RecordedWorld(tmp_path)
    world.session._listener.hear = None  # type: ignore[assignment, method-assign]
    with pytest.raises(TypeError):
        world.speak(0.1)
    assert load(only(tmp_path)).entries[-1].fields["in"] == "hear"


def test_only_the_owner_may_read_it(tmp_path: Path) -> None:
    RecordedWorld(tmp_path / "new")
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700
    assert stat.S_IMODE(only(tmp_path / "new").stat().st_mode) == 0o600


def test_the_settings_are_kept_without_keys(tmp_path: Path) -> None:
    settings = Settings(
        openai_api_key="artichoke",
        openai_url="http://me:artichoke@host/v1",
        token="artichoke",
        wait_done=0.55,
        record=str(tmp_path),
    )
    kept = recorded_settings(settings)
    assert "artichoke" not in json.dumps(kept)
    recording = Recording({"settings": kept | {"of_the_future": 1}})
    assert settings_of(recording).wait_done == 0.55
    assert settings_of(recording, {"wait_done": 0.6}).wait_done == 0.6
    assert settings_of(recording).record == ""


# -- the disk --------------------------------------------------------------------------------------


def test_the_oldest_recordings_give_way(tmp_path: Path) -> None:
    for day in (1, 2, 3):
        (tmp_path / f"2026010{day}T000000-x.recording").write_bytes(b"x" * (1 << 20))
    (tmp_path / "notes.txt").write_bytes(b"x" * (4 << 20))
    RecordedWorld(tmp_path, most_bytes=(5 << 19) + 1)
    names = sorted(path.name[:8] for path in tmp_path.glob("*.recording"))
    assert names[0] == "20260103"
    assert len(names) == 2
    assert (tmp_path / "notes.txt").exists()


def test_a_recording_that_fills_the_folder_ends_there(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    world = RecordedWorld(tmp_path, most_bytes=2 << 20)
    world.silence(60.0)
    world.speak(2.0)
    world.silence(2.0)
    assert world.commits()
    recording = load(only(tmp_path))
    assert recording.entries[-1].fields["end"] == "the limit is reached"
    assert only(tmp_path).stat().st_size <= 2 << 20
    assert "--record_limit is reached" in caplog.text
    assert replay(recording).first is None


def test_a_full_disk_ends_the_recording_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    world = RecordedWorld(tmp_path)
    world.speak(1.0)

    def full(descriptor: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(recorder.os, "write", full)
    world.speak(1.0)
    world.silence(4.0)
    world.end()
    assert world.endings()[1][0]["llm_output"]
    assert caplog.text.count("no more of it is recorded: No space left on device") == 1


def test_a_folder_that_cannot_be_made_records_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    folder = RecordingFolder(tmp_path / "file" / "folder", 1 << 30)
    assert folder.begin("s", HELLO, Settings()) is None
    assert "not recorded: Not a directory" in caplog.text


def test_a_folder_that_cannot_be_written_is_refused_at_the_start(tmp_path: Path) -> None:
    from fusion.checks import check_recording

    (tmp_path / "file").write_text("")
    check_recording(Settings())
    check_recording(Settings(record=str(tmp_path / "new" / "folder")))
    with pytest.raises(ConfigurationError, match="Sessions cannot be recorded in"):
        check_recording(Settings(record=str(tmp_path / "file" / "folder")))


def test_the_start_says_what_is_kept_and_where(tmp_path: Path) -> None:
    said = recorder.notice(Settings(record=str(tmp_path), record_limit=64))
    assert str(tmp_path) in said
    assert "sound" in said
    assert "words" in said
    assert "64 MB" in said
