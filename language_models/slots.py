"""Prompt caches in slots: which conversation uses which, and how far a growing prompt is sure."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from language_models.base import Cancellation, ChatMessage

# Stands in a rendered prompt for the words that a growing message does not have yet. A
# private-use character: no template trims it.
_CUT = "\ue000"


def cut_prompt(
    messages: Sequence[ChatMessage], render: Callable[[Sequence[ChatMessage]], str]
) -> str:
    """The prompt that `render` makes, up to the last whole word of the last message.

    That message's last word may still grow, and tokens join letters: they are sure only up to the
    space before it, which itself belongs to the next word's token.
    """
    last = messages[-1]
    whole_words = last.content.rpartition(" ")[0]
    prompt = render((*messages[:-1], replace(last, content=whole_words + _CUT)))
    return prompt[: prompt.rindex(_CUT)].rstrip(" ")


@dataclass(eq=False)
class Slot:
    """What a slot holds, and who uses it."""

    number: int
    messages: tuple[ChatMessage, ...] = ()
    user: Cancellation | None = None
    used_at: float = 0.0

    @property
    def free(self) -> bool:
        """Free now, or as soon as the model has noticed that its user was cancelled."""
        return self.user is None or self.user.requested


class Slots:
    """Gives each conversation the slot that knows it, else the one unused for longest.

    (Choosing by the share of equal tokens, as llama.cpp does, lets strangers overwrite each other's
    cache in turns: one system prompt for all makes that share large.)
    """

    def __init__(self, count: int) -> None:
        self._lock = threading.Lock()
        self.all = tuple(Slot(number) for number in range(count))

    @contextlib.contextmanager
    def taken(
        self, messages: tuple[ChatMessage, ...], cancellation: Cancellation
    ) -> Iterator[Slot]:
        """`take` a slot for a while."""
        slot = self.take(messages, cancellation)
        try:
            yield slot
        finally:
            self.release(slot, cancellation)

    def take(self, messages: tuple[ChatMessage, ...], cancellation: Cancellation) -> Slot:
        """The best slot for this prompt; a busy one if all are: the model must queue for it."""
        with self._lock:
            candidates = [slot for slot in self.all if slot.free] or self.all
            slot = max(candidates, key=lambda s: (prefix_overlap(s.messages, messages), -s.used_at))
            slot.messages, slot.user, slot.used_at = messages, cancellation, time.monotonic()
        return slot

    def release(self, slot: Slot, cancellation: Cancellation) -> None:
        """Give a slot back, unless another has taken it already."""
        with self._lock:
            if slot.user is cancellation:
                slot.user = None

    def cancel_all(self) -> None:
        with self._lock:
            users = [slot.user for slot in self.all if slot.user]
        for user in users:
            user.request()


def prefix_overlap(held: Sequence[ChatMessage], wanted: Sequence[ChatMessage]) -> int:
    """How many characters say that two prompts are of one conversation; 0 for strangers.

    Equal messages count wherever they stand, as older turns are left out of long conversations.
    The system prompt does not count. A growing message counts if most of it was kept.
    """
    said = {message for message in wanted if message.role != "system"}
    equal = sum(len(message.content) for message in said.intersection(held))
    if equal or not held:
        return equal
    before, now = held[-1].content, wanted[-1].content
    same = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(before, now, strict=False))
    same_start = len(list(same))
    return same_start if same_start * 2 > len(before) else 0
