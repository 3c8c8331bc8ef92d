"""Which language model suits a machine."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fusion.models.llms import LLMS, SPARE_MEMORY, SPEECH_TOKENS, Speed, choose_llm

GB = 1_000_000_000
FAST = Speed(prompt=2000.0, generation=200.0)

speeds = st.builds(Speed, st.floats(1, 5000), st.floats(0.1, 500))


def test_two_slow_cores_with_memory_get_the_largest_that_was_tried() -> None:
    choice = choose_llm(LLMS, Speed(prompt=113.0, generation=40.0), 16 * GB)
    assert choice.llm.name == "qwen2.5-coder-1.5b"
    assert choice.better is not None
    assert choice.better.name == "qwen3.5-2b"


def test_little_memory_gets_less() -> None:
    assert choose_llm(LLMS, FAST, 2 * GB).llm.name == "qwen2.5-coder-0.5b"
    small = choose_llm(LLMS, FAST, GB)
    assert small.llm.name == "smollm2-135m"
    assert "needs 1.3 GB of free memory, and 1.0 are" in small.reason


def test_a_slow_machine_gets_what_it_can_speak_with() -> None:
    assert choose_llm(LLMS, Speed(60.0, 12.0), 16 * GB).llm.name == "smollm2-135m"
    slow = choose_llm(LLMS, Speed(113.0, 20.0), 16 * GB)
    assert slow.llm.name == "qwen2.5-coder-0.5b"
    assert "qwen2.5-coder-1.5b would write 3.4 tokens a second" in slow.reason


def test_what_was_measured_beats_what_was_expected() -> None:
    found = {"qwen2.5-coder-1.5b": Speed(30.0, 3.0)}
    assert choose_llm(LLMS, FAST, 16 * GB, found).llm.name == "qwen2.5-coder-0.5b"


@given(speeds, st.integers(0, 64 * GB))
def test_what_is_chosen_was_tried_and_fits_or_is_the_smallest(smallest: Speed, free: int) -> None:
    choice = choose_llm(LLMS, smallest, free)
    assert choice.llm.tried
    assert choice.reason
    if choice.llm is not LLMS[0]:
        assert choice.llm.memory + SPARE_MEMORY <= free
        assert choice.llm.speed(smallest).generation >= SPEECH_TOKENS


@given(speeds, speeds, st.integers(0, 64 * GB))
def test_a_faster_machine_never_gets_less(one: Speed, other: Speed, free: int) -> None:
    faster = Speed(max(one.prompt, other.prompt), max(one.generation, other.generation))
    slow, fast = choose_llm(LLMS, one, free).llm, choose_llm(LLMS, faster, free).llm
    assert LLMS.index(fast) >= LLMS.index(slow)


def test_the_table_goes_from_small_to_large_and_names_each_licence() -> None:
    assert [llm.memory for llm in LLMS] == sorted(llm.memory for llm in LLMS)
    assert all(llm.licence and llm.languages for llm in LLMS)
    assert LLMS[0].model.default
    assert not any(llm.model.default for llm in LLMS[1:])
