"""The items of a conversation: in their order, checked, and cut where playback ended. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from realtime.events import Ids, RealtimeError, text

ROOT = "root"
CONTENT = {
    "user": ("input_text", "input_audio"),
    "assistant": ("output_text", "output_audio", "text", "audio"),
    "system": ("input_text",),
}
"""Types of content that a message of each role may have."""


@dataclass
class Clause:
    """A clause of spoken text and where its sound lies in the item's audio, in milliseconds."""

    text: str
    start: float
    end: float


@dataclass
class Item:
    """One item. `fields` are as the client sees them, less id, object and status.

    `clauses` and `audio_ms` are of an assistant's audio: what was said when, and how long it is.
    """

    id: str
    fields: dict[str, Any]
    status: str = "completed"
    clauses: list[Clause] = field(default_factory=list)
    audio_ms: float = 0.0
    played_ms: float | None = None
    """How far it was played, as far as that is known, where it was cut off."""
    truncated: bool = False

    @property
    def role(self) -> str:
        return str(self.fields.get("role", ""))

    @property
    def type(self) -> str:
        return str(self.fields["type"])

    def shown(self) -> dict[str, Any]:
        """The item as the client sees it."""
        return {"id": self.id, "object": "realtime.item", "status": self.status, **self.fields}

    @property
    def words(self) -> str:
        """What the language model is told of it."""
        if self.type == "function_call_output":
            return str(self.fields["output"])
        parts = self.fields.get("content", ())
        return " ".join(
            words for part in parts if (words := part.get("text") or part.get("transcript"))
        )

    def told(self) -> dict[str, Any]:
        """The item as the language model is to know it: what was not played was not said."""
        if self.played_ms is None:
            return self.shown()
        return {**self.shown(), "content": [self._audio(self._heard(self.played_ms))]}

    def _heard(self, end: float) -> str:
        return "".join(_until(clause, end) for clause in self.clauses).strip()

    @staticmethod
    def _audio(words: str) -> dict[str, Any]:
        return {"type": "output_audio", "transcript": words}

    def truncate(self, audio_end_ms: int) -> None:
        """Forget what comes after this moment of its audio, cut at the word.

        Raises RealtimeError where the audio is shorter than that.
        """
        if audio_end_ms > self.audio_ms + 1:
            raise RealtimeError(
                f"The audio of {self.audio_ms:.0f} ms is shorter than {audio_end_ms} ms already.",
                "invalid_value",
                param="audio_end_ms",
            )
        played = self._heard(audio_end_ms)
        self.audio_ms, self.played_ms, self.truncated = audio_end_ms, None, True
        self.clauses = [clause for clause in self.clauses if clause.start < audio_end_ms]
        for clause in self.clauses:
            clause.text, clause.end = _until(clause, audio_end_ms), min(clause.end, audio_end_ms)
        self.fields["content"] = [self._audio(played)]


def _until(clause: Clause, end: float) -> str:
    """The words of a clause whose sound was over by then, in proportion to their letters."""
    if end >= clause.end:
        return clause.text
    if end <= clause.start:
        return ""
    letters = len(clause.text) * (end - clause.start) / (clause.end - clause.start)
    kept = ""
    for word in _words(clause.text):
        if len(kept) + len(word.rstrip()) > letters + 0.5:
            break
        kept += word
    return kept


def _words(said: str) -> Iterator[str]:
    """Words with the white space after them."""
    start = 0
    for position in range(1, len(said)):
        if said[position - 1].isspace() and not said[position].isspace():
            yield said[start:position]
            start = position
    yield said[start:]


class Items:
    """The conversation's items. Every method may raise RealtimeError, and then changes nothing."""

    def __init__(self, ids: Ids) -> None:
        self._ids = ids
        self._items: list[Item] = []

    def __iter__(self) -> Iterator[Item]:
        return iter(self._items)

    def last_id(self) -> str | None:
        return self._items[-1].id if self._items else None

    def get(self, item_id: str, code: str) -> Item:
        """Return an item; `code` is the error's where there is none."""
        for item in self._items:
            if item.id == item_id:
                return item
        raise RealtimeError(f"There is no item {item_id!r}.", code, param="item_id")

    def before(self, item: Item) -> str | None:
        """The id of the item before this one."""
        at = self._items.index(item)
        return self._items[at - 1].id if at else None

    def append(self, fields: dict[str, Any], *, status: str = "completed") -> Item:
        """Add an item of ours at the end."""
        item = Item(self._ids.make("item"), fields, status)
        self._items.append(item)
        return item

    def insert(self, wanted: object, previous: object) -> Item:
        """Add a client's item after `previous`: an id, "root" (the beginning) or None (the end)."""
        item = self.made(wanted)
        if any(item.id == other.id for other in self._items):
            raise RealtimeError(
                f"There is an item {item.id!r} already.",
                "item_create_duplicate_item_id",
                param="item.id",
            )
        if previous is None:
            place = len(self._items)
        elif previous == ROOT:
            place = 0
        elif isinstance(previous, str):
            place = (
                self._items.index(self.get(previous, "item_create_invalid_previous_item_id")) + 1
            )
        else:
            raise RealtimeError(
                "previous_item_id is an item's id.", "invalid_value", param="previous_item_id"
            )
        self._items.insert(place, item)
        return item

    def made(self, wanted: object) -> Item:
        """An item of a client's fields, checked and not in the conversation."""
        if not isinstance(wanted, dict):
            raise RealtimeError("item has to be an object.", "invalid_value", param="item")
        item_id = text(wanted, "id", required=False) or self._ids.make("item")
        kind = wanted.get("type")
        if kind == "message":
            return Item(item_id, _message(wanted))
        if kind == "function_call":
            names = ("name", "arguments", "call_id")
            return Item(item_id, {"type": kind, **{name: text(wanted, name) for name in names}})
        if kind == "function_call_output":
            output = text(wanted, "output", required=False)
            return Item(
                item_id, {"type": kind, "call_id": text(wanted, "call_id"), "output": output}
            )
        raise RealtimeError(
            "item.type is message, function_call or function_call_output.",
            "invalid_value",
            param="item.type",
        )

    def delete(self, item_id: str) -> None:
        self._items.remove(self.get(item_id, "item_delete_invalid_item_id"))

    def truncate(self, item_id: str, content_index: int, audio_end_ms: int) -> None:
        """Cut an assistant's audio; see `Item.truncate`."""
        item = self.get(item_id, "item_truncate_invalid_item_id")
        if item.role != "assistant":
            raise RealtimeError(
                "Only an assistant's message can be truncated.",
                "invalid_value",
                param="item_id",
            )
        if content_index != 0:
            raise RealtimeError(
                "A message has one part of audio, of index 0.",
                "invalid_value",
                param="content_index",
            )
        item.truncate(audio_end_ms)


def _message(wanted: dict[str, Any]) -> dict[str, Any]:
    role = wanted.get("role")
    if not isinstance(role, str) or role not in CONTENT:
        raise RealtimeError(
            "item.role is user, assistant or system.", "invalid_value", param="item.role"
        )
    content = wanted.get("content")
    if not isinstance(content, list):
        raise RealtimeError("item.content is a list.", "invalid_value", param="item.content")
    return {"type": "message", "role": role, "content": [_part(part, role) for part in content]}


def _part(part: object, role: str) -> dict[str, Any]:
    kind = part.get("type") if isinstance(part, dict) else None
    if not isinstance(part, dict) or not isinstance(kind, str) or kind not in CONTENT[role]:
        allowed = ", ".join(CONTENT[role])
        raise RealtimeError(
            f"Content of a message of the role {role} is {allowed}.",
            "invalid_value",
            param="item.content",
        )
    if kind.endswith("audio"):
        # Its sound never came here; the transcript is what a model of text can take of it.
        return {"type": kind, "transcript": text(part, "transcript", required=False)}
    return {"type": kind if kind != "text" else "output_text", "text": text(part, "text")}
