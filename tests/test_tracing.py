"""Traces: when there are any, what they tell of a turn, and what they never tell."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import pytest

from fusion import tracing
from fusion.messages import Prefill, ReplyEnded, ReplyFailed, ReplyText
from language_models.generations import Generation, Generations, Priority
from tests.collector import CollectedSpan, Collector, collector
from tests.running import ROOT
from tests.session_world import World
from voices.speech_trace import SpeechTrace
from whisper_live.followed_session import FollowedSession
from whisper_live.session_policy import SessionPolicy
from whisper_live.turn_traces import TurnTraces

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


@pytest.mark.parametrize(
    ("variables", "name"),
    [
        ({}, ""),
        ({"OTEL_SERVICE_NAME": "kitchen"}, ""),
        ({ENDPOINT: "http://collector:4318"}, ENDPOINT),
        ({ENDPOINT: ""}, ""),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c/v1/traces"}, tracing.ENDPOINTS[0]),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, "OTEL_TRACES_EXPORTER"),
        ({ENDPOINT: "http://collector:4318", "OTEL_TRACES_EXPORTER": "none"}, ""),
        ({ENDPOINT: "http://collector:4318", "OTEL_SDK_DISABLED": "TRUE"}, ""),
        ({ENDPOINT: "http://collector:4318", "OTEL_SDK_DISABLED": "no"}, ENDPOINT),
    ],
)
def test_the_standard_variables_ask_for_traces(variables: dict[str, str], name: str) -> None:
    assert tracing.asked_by(variables) == name
    assert tracing.trouble(variables) == ""


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "OTEL_TRACES_EXPORTER may be otlp or none"),
        ({ENDPOINT: "http://c", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "http/protobuf only"),
    ],
)
def test_what_is_not_known_is_said(variables: dict[str, str], words: str) -> None:
    assert words in tracing.trouble(variables)
    tracing.start("transcription", variables)
    assert not tracing.is_on()


def test_a_missing_package_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing, "_PACKAGES", ("opentelemetry_of_nobody.sdk",))
    sentence = tracing.trouble({ENDPOINT: "http://collector:4318"})
    assert sentence.startswith(f"There will be no traces: {ENDPOINT} asks for them")
    assert "pip install 'whisperfusion[tracing]'" in sentence
    tracing.start("transcription", {ENDPOINT: "http://collector:4318"})
    assert not tracing.is_on()


def test_without_the_variables_nothing_of_the_library_is_imported() -> None:
    program = (
        "import sys, whisper_live.server, llm_service, tts_service\n"
        "from fusion import tracing\n"
        "tracing.start('transcription', {})\n"
        "assert tracing.begin('turn', 0.0, None).context == ''\n"
        "print([name for name in sys.modules if name.startswith(('opentelemetry', 'requests'))])"
    )
    said = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert said.stdout == "[]\n", said.stderr


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    """Traces are made in this process; they have arrived once `tracing.stop` was called."""
    with collector() as collected:
        monkeypatch.setenv(ENDPOINT, collected.address)
        monkeypatch.setenv("OTEL_SERVICE_NAME", "kitchen")
        tracing.start(
            "transcription", {ENDPOINT: collected.address, "OTEL_SERVICE_NAME": "kitchen"}
        )
        yield collected
        tracing.stop()


class TracedWorld(World):
    """A world whose session is followed, as the server makes it."""

    def __init__(self, **options: object) -> None:
        super().__init__(**options)  # type: ignore[arg-type]
        policy: SessionPolicy = self.session._policy
        self.traces = TurnTraces("s")
        self.session = FollowedSession("s", policy, (), [self.traces])


def root(collected: Collector) -> CollectedSpan:
    [turn] = collected.named("turn")
    return turn


def test_a_turn_is_one_trace(traced: Collector) -> None:
    world = TracedWorld()
    world.speak(2.0)
    world.silence(4.0)
    tracing.stop()
    turn = root(traced)
    assert (turn.parent, turn.service, turn.process) == ("", "kitchen", "transcription")
    assert turn.attributes["session"] == "s"
    assert turn.attributes["turn"] == 1
    assert turn.attributes["ending"] == "complete"
    assert turn.attributes["speculative"] is True
    assert turn.attributes["first_sound_ms"] == world.timeline()["first_sound"]
    parts = {span.name: span for span in traced.spans if span.parent == turn.identity}
    assert {*parts} == {"speech", "endpoint", "transcript", "turn detection"}
    assert {span.trace for span in traced.spans} == {turn.trace}
    assert parts["speech"].began == pytest.approx(turn.began)
    assert parts["speech"].ended == pytest.approx(parts["endpoint"].began, abs=1e-4)
    milliseconds = 1000 * (parts["endpoint"].ended - parts["endpoint"].began)
    assert milliseconds == pytest.approx(world.timeline()["commit"], abs=1)
    assert parts["transcript"].ended - parts["transcript"].began == pytest.approx(0.12, abs=0.04)


def test_the_messages_to_the_other_processes_carry_the_context(traced: Collector) -> None:
    world = TracedWorld()
    world.speak(2.0)
    world.silence(4.0)
    tracing.stop()
    turn = root(traced)
    messages = [m for m in (*world.to_model, *world.to_voice) if not isinstance(m, Prefill)]
    contexts = {message.trace for message in messages}  # type: ignore[union-attr]
    [context] = contexts
    assert context.startswith(f"00-{turn.trace}-{turn.identity}-")


def test_an_interrupted_turn_and_a_failed_one_say_so(traced: Collector) -> None:
    world = TracedWorld(reply_seconds=6.0)
    world.speak(2.0)
    world.silence(2.0)
    world.take(world.session.interrupt(world.now))
    world.silence(1.0)
    world.model_dies = True
    world.speak(2.0)
    world.silence(1.0)
    commit = world.commits()[-1]
    failed = ReplyFailed("s", commit.turn, commit.revision, "It broke at artichoke.")
    world.take(world.session.received(failed, world.now))
    tracing.stop()
    endings = [span.attributes["ending"] for span in traced.named("turn")]
    assert endings == ["interrupted", "error"]
    assert not [body for body in traced.bodies if b"artichoke" in body]


def test_what_is_under_way_ends_with_the_session(traced: Collector) -> None:
    world = TracedWorld(reply_seconds=6.0)
    world.speak(2.0)
    world.silence(2.0)
    assert isinstance(world.session, FollowedSession)
    world.session.close(world.now)
    tracing.stop()
    assert root(traced).attributes["ending"] == "session ended"


def test_a_generation_waits_then_has_its_first_token(traced: Collector) -> None:
    turn = tracing.begin("turn", 1.0, None)
    generations = Generations(1)
    for number in (1, 2, 3):
        generation = Generation("s", number, 1, "Q", Priority.COMMITTED, trace=turn.context)
        generations.add(generation)
    for text in ("An answer.", ""):
        running = generations.next()
        assert running is not None
        assert running.grow("An ", 1.5).trace == running.spans.context
        running.grow("answer.", 1.6)
        running.text = text
        generations.finished(running)
    generations.stop(generations.waiting[0])
    turn.end(2.0)
    tracing.stop()
    complete, failed, stopped = traced.named("reply")
    assert complete.attributes == {"speculative": False, "ending": "complete", "pieces": 2}
    assert failed.attributes["ending"] == "failed"
    assert stopped.attributes["ending"] == "stopped"
    assert {complete.parent, failed.parent, stopped.parent} == {root(traced).identity}
    parts = [span for span in traced.spans if span.parent == complete.identity]
    assert {span.name for span in parts} == {"queue", "first token"}


def test_each_clause_and_its_synthesis_are_seen(traced: Collector) -> None:
    reply = tracing.begin("reply", 1.0, None)
    speech = SpeechTrace()
    text = ReplyText("s", 1, 1, "Hello ", 10.0, trace=reply.context)
    speech.text_came(text, 0)
    speech.text_came(replace(text, at=10.5), 1)
    speech.text_came(ReplyEnded("s", 1, 1, "all", 12.0), 3)
    speech.spoken(1, 10.5, 10.75, 0.8)
    speech.first_sound(10.6, 10.625)
    tracing.stop()
    about = partial(pytest.approx, abs=1e-5)
    lasted = [(s.attributes["clause"], s.ended - s.began) for s in traced.named("clause")]
    assert lasted == [(1, about(0.5)), (2, about(1.5)), (3, about(0.0))]
    [synthesis] = traced.named("synthesis")
    assert synthesis.attributes == {"clause": 1, "seconds": 0.8}
    [sound] = traced.named("first sound")
    assert sound.ended - sound.began == pytest.approx(0.025, abs=1e-5)


def test_a_reply_that_nobody_traces_has_no_spans(traced: Collector) -> None:
    speech = SpeechTrace()
    speech.text_came(ReplyText("s", 1, 1, "Hello.", 10.0), 1)
    speech.spoken(1, 10.5, 10.75, 0.8)
    Generation("s", 1, 1, "Q", Priority.COMMITTED).end()
    tracing.stop()
    assert traced.spans == []
