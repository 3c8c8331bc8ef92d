"""The traces of the real program, as they arrive at a collector."""

from __future__ import annotations

import pytest

from benchmarks.simulated_user import person
from tests.collector import Collector, collector
from tests.recordings import load
from tests.running import RunningServer
from tests.test_end_to_end import answered, at

pytestmark = pytest.mark.e2e

PROCESSES = {
    "transcription": {"turn", "speech", "endpoint", "transcript", "turn detection"},
    "language_model": {"reply", "queue", "first token"},
    "voice": {"clause", "synthesis", "first sound"},
}


async def talk_once(monkeypatch: pytest.MonkeyPatch) -> tuple[Collector, list[bytes], float]:
    """Ask one question; what the collector got, what it must not have, and the first sound (ms)."""
    with collector() as collected:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collected.address)
        monkeypatch.setenv("OTEL_SERVICE_NAME", "kitchen")
        with RunningServer(("--max_new_tokens", "40", "--web_port", "0")) as running:
            async with person(at(running)) as someone:
                await someone.say(load("brooklyn_bridge"))
                reply = await answered(someone)
                ready = someone.conversation.ready.fields
                timeline = someone.notices("timeline")[0].fields["milliseconds"]
    words = [word.encode() for word in (*reply.text.split(), "Brooklyn", "bridge") if len(word) > 5]
    return collected, [*words, ready["audio_key"].encode()], timeline["first_sound"]


async def test_a_turn_is_one_trace_through_three_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    collected, secrets, first_sound = await talk_once(monkeypatch)
    [turn] = [span for span in collected.named("turn") if span.attributes["ending"] == "complete"]
    trace = [span for span in collected.spans if span.trace == turn.trace]
    assert {span.service for span in trace} == {"kitchen"}
    for process, names in PROCESSES.items():
        assert {span.name for span in trace if span.process == process} == names
    by_identity = {span.identity: span for span in trace}
    assert all(by_identity[span.parent] for span in trace if span is not turn)
    used = [span for span in collected.named("reply") if span.attributes["ending"] == "complete"]
    assert used[-1].parent == turn.identity
    [speech], [endpoint] = collected.named("speech"), collected.named("endpoint")
    sound = collected.named("first sound")[0]
    assert 1000 * (sound.ended - speech.ended) == pytest.approx(first_sound, abs=5)
    assert turn.began <= speech.ended <= endpoint.ended <= turn.ended
    sent = b"".join(collected.bodies)
    assert len(secrets) > 3
    assert [secret for secret in secrets if secret in sent] == []
