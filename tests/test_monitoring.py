"""The real program, let in by a named token: its log and its numbers after a conversation."""

from __future__ import annotations

import asyncio
import re
import urllib.request
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.simulated_user import person
from fusion import metrics
from fusion.errors import FusionError
from tests.recordings import load
from tests.running import RunningServer
from tests.test_metrics import queries
from whisper_live.client import Notice, Server, talk

pytestmark = pytest.mark.e2e

# What a short conversation without trouble gives no occasion for.
_UNSEEN = {"whisperfusion_drops", "whisperfusion_overlaps"}


def exported(port: int) -> dict[str, set[tuple[str, str]]]:
    """The names of all samples, each with the labels that it has been seen with."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    found: dict[str, set[tuple[str, str]]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels.items())
    return found


async def test_a_conversation_is_seen_by_the_monitor_and_by_nobody_s_name_but_the_token_s(
    tmp_path: Path,
) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text("anna  very-secret\n")
    with RunningServer(("--token_file", str(tokens))) as running:
        at = Server("127.0.0.1", running.transcription_port, running.speech_port, "very-secret")
        async with person(at) as someone:
            await someone.say(load("brooklyn_bridge"))
            await someone.until(Notice, lambda n: n.name == "reply_end")
            await someone.conversation.command("no such command")
            await asyncio.sleep(1.5)
        stranger = Server("127.0.0.1", running.transcription_port, running.speech_port, "guess")
        with pytest.raises(FusionError, match="token"):
            async with talk(stranger):
                pytest.fail("a stranger was let in")
        await asyncio.sleep(0.5)
        seen = [exported(port) for port in running.ports]
        log = running.log
    assert "with the token of anna" in log
    assert "very-secret" not in log
    assert "guess" not in log
    ours = [{name for name in each if name.startswith("whisperfusion")} for each in seen]
    assert ours[0] == ours[1] == ours[2]
    for family in metrics.REGISTRY.collect():
        assert any(name.startswith(family.name) for name in ours[0]) or family.name in _UNSEEN
    for query in queries():
        for name, matchers in re.findall(r"(whisperfusion_\w+)(?:\{([^}]*)\})?", query):
            if name.removesuffix("_total") in _UNSEEN:
                continue
            assert name in ours[0], query
            for label, value in re.findall(r"(\w+)=\"([^\"]*)\"", matchers):
                assert (label, value) in seen[0][name], query
    labels = seen[0]["whisperfusion_call_seconds_count"]
    stages = {value for label, value in labels if label == "stage"}
    assert {"transcription", "turn detection", "generation", "synthesis"} <= stages
    backends = {value for label, value in labels if label == "backend"}
    assert {"faster_whisper", "llama_cpp", "piper", "onnxruntime"} <= backends
    queued = {value for label, value in seen[0]["whisperfusion_queue_depth"] if label == "queue"}
    assert {"transcriptions", "turn detections", "generations", "clauses"} <= queued
    assert ("token_name", "anna") in seen[0]["whisperfusion_connects_total"]
    assert ("reason", "the token is missing or wrong") in seen[0]["whisperfusion_refusals_total"]
