"""Which conversation uses which prompt cache."""

from __future__ import annotations

import itertools

from language_models.base import Cancellation, ChatMessage
from language_models.slots import Slots, cut_prompt, prefix_overlap

SYSTEM = ChatMessage("system", "Answer in one or two short spoken sentences, without lists.")


def ask(*texts: str) -> tuple[ChatMessage, ...]:
    """A conversation: the person and the machine speak in turns."""
    roles = itertools.cycle(("user", "assistant"))
    return (SYSTEM, *(ChatMessage(role, text) for role, text in zip(roles, texts, strict=False)))


def test_a_growing_prompt_ends_at_the_last_whole_word() -> None:
    def render(messages: tuple[ChatMessage, ...]) -> str:
        return "".join(f"[{m.role}] {m.content.strip()} [end]" for m in messages) + "[assistant]"

    start = f"[system] {SYSTEM.content} [end]"
    assert cut_prompt(ask("What time is i"), render) == f"{start}[user] What time is"
    assert cut_prompt(ask("What time is "), render) == f"{start}[user] What time is"
    assert cut_prompt(ask("What"), render) == f"{start}[user]"


def test_a_growing_message_is_known_and_a_stranger_is_not() -> None:
    held = ask("What is the capital of")
    assert prefix_overlap(held, ask("What is the capital of France?")) > 0
    assert prefix_overlap(held, ask("What did you eat for breakfast today?")) == 0
    assert prefix_overlap((), ask("What is")) == 0


def test_a_conversation_whose_oldest_turns_were_left_out_is_known() -> None:
    assert prefix_overlap(ask("One.", "Two.", "Three."), ask("Three.", "Four.", "Five.")) > 0


def test_slots_are_taken_by_kinship_then_by_age_and_never_while_in_use() -> None:
    slots = Slots(2)
    first, second, third = ask("Rain in Rome?"), ask("Snow in Oslo?"), ask("Where is my hat?")
    with slots.taken(first, Cancellation()) as a, slots.taken(first, Cancellation()) as b:
        assert a is not b
    with slots.taken(second, Cancellation()) as old:
        pass
    with slots.taken(first, Cancellation()) as known:
        assert known is not old
    with slots.taken(third, Cancellation()) as oldest:
        assert oldest is old


def test_a_slot_whose_user_was_cancelled_can_be_taken_again() -> None:
    slots = Slots(2)
    question = ask("What is the capital of Peru?")
    withdrawn, speculative = Cancellation(), Cancellation()
    with slots.taken(question, withdrawn) as slot:
        withdrawn.request()
        with slots.taken(question, speculative) as again:
            assert again is slot
            assert slot.user is speculative
        assert slot.user is None
