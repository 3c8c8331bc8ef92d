"""`--llm auto`: what talks first, what takes over, what is remembered. Models are played."""

from __future__ import annotations

import dataclasses
import json
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from fusion.errors import ConfigurationError
from fusion.messages import Commit, Message, ReplyEnded, ReplyText, SessionStarted
from fusion.models import lookup
from fusion.models.llms import LLMS, Llm
from fusion.settings import Settings
from fusion.tools import Tool
from language_models import automatic as module
from language_models.announcer import ModelAnnouncer
from language_models.automatic import AutomaticModel, Started, is_automatic
from language_models.base import Cancellation, ChatMessage, GenerationRequest
from language_models.speed import SpeedRecord, SpeedWatch
from llm_service import LanguageModelService

GB = 1_000_000_000
SMALL, MIDDLE, LARGE = LLMS[:3]


class PlayedModel:
    """Answers with its name, at once or when it is let go on."""

    takes_tools = False
    max_concurrent = 2

    def __init__(self, name: str) -> None:
        self.name = name
        self.closed = False
        self.go_on = threading.Event()
        self.go_on.set()

    def warm_up(self) -> None:
        pass

    def count_tokens(self, messages: Sequence[ChatMessage], tools: Sequence[Tool] = ()) -> int:
        return 100

    def stream(self, request: GenerationRequest, cancellation: Cancellation) -> Iterator[str]:
        yield f"I am {self.name}."
        assert self.go_on.wait(10)
        yield " Yes."

    def prefill(
        self,
        messages: Sequence[ChatMessage],
        cancellation: Cancellation,
        tools: Sequence[Tool] = (),
    ) -> None:
        pass

    def close(self) -> None:
        self.closed = True


class World:
    """A machine: how fast it is said to be, what its cache holds, what was loaded and told."""

    def __init__(self, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.settings = dataclasses.replace(Settings(), cache=str(cache))
        self.speeds = {
            llm.name: module.Speed(500.0 * llm.prompt, 200.0 * llm.generation) for llm in LLMS
        }
        self.fetched: list[str] = []
        self.loaded: list[PlayedModel] = []
        self.told: list[tuple[str, str, str]] = []
        self.held: set[str] = set()
        self.memory = 16 * GB
        monkeypatch.setattr(module, "measure", lambda model: self.speeds[model.name])
        monkeypatch.setattr(module, "free_memory", lambda: self.memory)
        monkeypatch.setattr(module.cache, "is_whole", lambda model, _: model.name in self.held)
        monkeypatch.setattr(lookup, "fetch", self.fetch)

    def fetch(self, name: str, cache: Path, progress: object) -> Path:
        self.fetched.append(name)
        self.held.add(name)
        return cache

    def load(self, settings: Settings) -> PlayedModel:
        self.loaded.append(PlayedModel(settings.llm))
        return self.loaded[-1]

    def begin(self) -> tuple[AutomaticModel, Started]:
        automatic = AutomaticModel(self.settings, self.load)
        return automatic, automatic.start()

    def improve(self) -> Started | None:
        automatic, started = self.begin()
        return automatic.improve(started, lambda *what: self.told.append(what))


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path / "cache", monkeypatch)


def test_at_a_first_start_the_smallest_talks_and_the_best_follows(world: World) -> None:
    _, started = world.begin()
    assert (started.model.name, started.coming) == (SMALL.name, LARGE)
    assert started.sentence() == f"{SMALL.name} for a start; {LARGE.name} is on its way"
    better = world.improve()
    assert better is not None
    assert (better.model.name, world.fetched) == (LARGE.name, [LARGE.name])
    assert ("the next larger one is --llm qwen3.5-2b") in better.sentence()
    assert world.told[-1] == (SMALL.name, LARGE.name, "loading")


def test_the_next_start_begins_with_what_was_found_to_fit(world: World) -> None:
    world.improve()
    world.loaded.clear()
    _, started = world.begin()
    assert (started.model.name, started.coming) == (LARGE.name, None)
    assert [model.name for model in world.loaded] == [LARGE.name]


def test_a_cache_that_lost_it_begins_small_again(world: World) -> None:
    world.improve()
    world.held.clear()
    _, started = world.begin()
    assert (started.model.name, started.coming) == (SMALL.name, LARGE)


def test_less_memory_than_last_time_gets_a_smaller_one(world: World) -> None:
    world.improve()
    world.held.add(MIDDLE.name)
    world.memory = 2 * GB
    _, started = world.begin()
    assert started.model.name == MIDDLE.name
    assert "needs 2.5 GB of free memory" in started.sentence()


def test_one_that_turns_out_too_slow_makes_way_for_the_next_smaller(world: World) -> None:
    world.speeds[LARGE.name] = module.Speed(30.0, 2.0)
    better = world.improve()
    assert better is not None
    assert better.model.name == MIDDLE.name
    slow = next(model for model in world.loaded if model.name == LARGE.name)
    assert slow.closed
    assert world.begin()[1].coming == LARGE  # it may have been slow for once: the next starts tell
    for _ in range(2):
        better = world.improve()
        assert better is not None
        assert better.model.name == MIDDLE.name
    world.loaded.clear()
    assert world.begin()[1].model.name == MIDDLE.name
    assert [model.name for model in world.loaded] == [MIDDLE.name]


def test_one_that_was_measured_on_a_busy_machine_gets_its_chance_at_the_next_start(
    world: World,
) -> None:
    fast = world.speeds[LARGE.name]
    world.speeds[LARGE.name] = module.Speed(30.0, 2.0)
    world.improve()
    world.speeds[LARGE.name] = fast
    better = world.improve()
    assert better is not None
    assert better.model.name == LARGE.name
    world.loaded.clear()
    assert world.begin()[1].model.name == LARGE.name
    assert [model.name for model in world.loaded] == [LARGE.name]


def test_a_busy_first_start_keeps_nobody_small(world: World) -> None:
    idle = world.speeds
    world.speeds = dict.fromkeys(world.speeds, module.Speed(20.0, 8.0))
    assert world.begin()[1].coming is None
    world.speeds = idle
    _, started = world.begin()
    assert (started.model.name, started.coming) == (SMALL.name, LARGE)


def test_a_machine_that_is_always_slow_is_measured_at_three_starts_and_then_weekly(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.speeds = dict.fromkeys(world.speeds, module.Speed(20.0, 8.0))
    now = 1_800_000_000.0
    monkeypatch.setattr(time, "time", lambda: now)
    for _ in range(3):
        world.begin()
    world.speeds = dict.fromkeys(world.speeds, module.Speed(900.0, 400.0))
    assert world.begin()[1].coming is None
    now += 8 * 24 * 3600
    assert world.begin()[1].coming == LARGE


def test_a_cache_that_cannot_be_written_keeps_nobody_small(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError("read-only")

    monkeypatch.setattr(SpeedRecord, "_put", refuse)
    assert world.begin()[1].coming == LARGE


@pytest.mark.parametrize(
    ("replies", "doubted"),
    [
        ([30.0] * 8, False),
        ([18.0] * 8, False),  # beside speech it is slower
        ([3.0] * 7, False),  # too few to tell
        ([3.0] * 8, True),
        ([3.0] * 7 + [6.0], False),
        ([0.0] * 20, False),
        ([60.0] * 8, True),
    ],
)
def test_replies_that_contradict_the_measurement_let_it_be_made_again(
    tmp_path: Path, replies: list[float], doubted: bool
) -> None:
    record = SpeedRecord(tmp_path, 1)
    record.write("model", module.Speed(100.0, 30.0))
    watch = SpeedWatch(record, "other")
    watch.follow("model")
    for speed in replies:
        watch.reply(speed)
    assert (record.read()["model"].times == 0) is doubted
    # What is measured after a doubt counts, also where it is less.
    record.write("model", module.Speed(50.0, 4.0))
    assert (record.read()["model"].speed == module.Speed(50.0, 4.0)) is doubted


def test_a_model_that_is_in_doubt_is_measured_before_it_talks(world: World) -> None:
    world.improve()
    automatic, started = world.begin()
    assert started.model.name == LARGE.name
    watch = automatic.watch(started)
    for _ in range(8):
        watch.reply(2.0)
    world.speeds[LARGE.name] = module.Speed(30.0, 2.0)
    assert world.begin()[1].coming == LARGE
    better = world.improve()
    assert better is not None
    assert better.model.name == MIDDLE.name


def test_the_service_tells_how_fast_its_replies_are() -> None:
    class Slow(PlayedModel):
        def stream(self, request: GenerationRequest, cancellation: Cancellation) -> Iterator[str]:
            for number in range(20):
                time.sleep(0.005)
                yield f" {number},"

    told: list[float] = []
    answered = threading.Event()

    def send(message: Message) -> None:
        if isinstance(message, ReplyEnded):
            answered.set()

    service = LanguageModelService(Slow("slow"), Settings(), send, tell_speed=told.append)
    service.handle(SessionStarted("s", "key", "here", "en", "", ""))
    service.handle(Commit("s", 1, 1, "Count."))
    assert answered.wait(10)
    assert len(told) == 1
    assert 0 < told[0] < 200
    service.close()


def test_a_machine_too_slow_for_any_keeps_the_smallest(world: World) -> None:
    world.speeds = dict.fromkeys(world.speeds, module.Speed(20.0, 8.0))
    _, started = world.begin()
    assert (started.model.name, started.coming) == (SMALL.name, None)
    assert "too slow to speak" in started.sentence()


def test_a_fetch_that_fails_is_told_and_the_small_one_stays(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(name: str, cache: Path, progress: object) -> Path:
        raise ConfigurationError("The model could not be fetched: connect this machine.")

    automatic, started = world.begin()
    monkeypatch.setattr(lookup, "fetch", fail)
    assert automatic.improve(started, lambda *what: world.told.append(what)) is None
    assert world.told == [(SMALL.name, "", "The model could not be fetched: connect this machine.")]


def test_speeds_of_another_machine_or_a_damaged_file_count_as_none(tmp_path: Path) -> None:
    record = SpeedRecord(tmp_path, 2)
    record.write("a", module.Speed(10.0, 5.0))
    record.write("b", module.Speed(20.0, 6.0))
    found = {name: measured.speed for name, measured in record.read().items()}
    assert found == {"a": module.Speed(10.0, 5.0), "b": module.Speed(20.0, 6.0)}
    assert SpeedRecord(tmp_path, 1).read() == {}
    (tmp_path / "speeds.json").write_text(json.dumps({record._machine: {"a": [10.0, 5.0]}}))
    assert record.read()["a"].times == 1  # as the first versions wrote it
    for damage in ("", "[]", '{"x": 1}', "\x00"):
        (tmp_path / "speeds.json").write_text(damage)
        assert record.read() == {}


def test_only_llama_cpp_and_auto_choose() -> None:
    assert is_automatic(Settings(), "llama_cpp")
    assert not is_automatic(Settings(), "openai_api")
    assert not is_automatic(dataclasses.replace(Settings(), llm="model.gguf"), "llama_cpp")


# -- taking over between two turns ----------------------------------------------------------------


def texts(sent: list[Message]) -> list[str]:
    return [message.text for message in sent if isinstance(message, ReplyText | ReplyEnded)]


def test_a_better_model_takes_over_between_two_turns_with_the_conversation_so_far() -> None:
    sent: list[Message] = []
    answered = threading.Event()

    def send(message: Message) -> None:
        sent.append(message)
        if isinstance(message, ReplyEnded):
            answered.set()

    old, new = PlayedModel("old"), PlayedModel("new")
    service = LanguageModelService(old, Settings(), send)
    service.handle(SessionStarted("s", "key", "here", "en", "", ""))
    old.go_on.clear()
    service.handle(Commit("s", 1, 1, "Who are you?"))
    service.replace_model(new)
    assert not old.closed  # it is in the middle of a sentence
    old.go_on.set()
    assert answered.wait(10)
    answered.clear()
    service.handle(Commit("s", 2, 1, "And now?"))
    assert answered.wait(10)
    ended = [message.text for message in sent if isinstance(message, ReplyEnded)]
    assert ended == ["I am old. Yes.", "I am new. Yes."]
    service.close()
    assert old.closed
    assert new.closed


def test_a_model_is_announced_again_to_a_server_that_was_restarted() -> None:
    put: list[Message] = []
    announcer = ModelAnnouncer(put.append)
    announcer.announce("small", "large", "40 % of 1093 MB")
    announcer.repeat()
    assert put[0] == put[1]


def test_the_table_is_what_is_chosen_from() -> None:
    assert all(isinstance(llm, Llm) for llm in LLMS)
