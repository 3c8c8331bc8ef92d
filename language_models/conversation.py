"""What a session's language model remembers, and the prompt that it becomes. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from fusion.errors import ModelError
from language_models.base import ChatMessage

# When the history no longer fits, it is cut to this share of the room at once. Cutting a little in
# every turn would change the beginning of every prompt, and the prompt cache would never help.
_ROOM_AFTER_CUT = 0.6

# No tokenizer of ours makes more tokens of a text than it has bytes; the frame that a chat
# template puts around a message is shorter than this.
_TEMPLATE_TOKENS = 16

# How those texts begin that a tokenizer takes for marks of a chat template: <|im_end|>, <｜User｜>,
# </s>, <end_of_turn>, [INST], [|user|], … Whoever types one, or has the model write one, would end
# a turn and speak in another's name.
_MARK = re.compile(
    r"[<\[](?=[|｜])"
    r"|<(?=/?(?i:s|unk|pad|mask|cls|sep|[be]os\w*|(?:start|end)_of_\w+)>)"
    r"|\[(?=/?[A-Z_]{4,}\])"
)

# How old what a model knows of the time may be.
_TIME_IS_OLD = timedelta(minutes=2)

_WORD = re.compile(r"\w+")

CountTokens = Callable[[Sequence[ChatMessage]], int]


@dataclass
class _Turn:
    number: int
    question: str
    answer: str = ""


class Conversation:
    """One session's turns, and what was said aloud in answer to them. Not thread-safe.

    A prompt is best made from a `copy`: counting its tokens can take a while.

    The system prompt ends with the time at which the conversation began (`now`), and never changes:
    prompt caches hold its beginning, and that of everything said since. Later on a question begins
    with the time where the last one that was told has become old.
    """

    def __init__(
        self,
        system_prompt: str,
        history: Iterable[tuple[str, str]] = (),
        now: datetime | None = None,
    ) -> None:
        moment = f"It is {_moment(now)}." if now else ""
        self._system = f"{system_prompt.strip()} {moment}".strip()
        self._turns: list[_Turn] = []
        self._forgotten = 0
        self._began = now
        self._told: dict[int, datetime] = {}
        self._last_told_turn = 0
        for role, text in history:
            if role == "user":
                self._turns.append(_Turn(0, text))
            elif self._turns and not self._turns[-1].answer:
                self._turns[-1].answer = text
            else:  # the machine spoke first, or went on by itself
                self._turns.append(_Turn(0, "", text))

    @property
    def system_prompt(self) -> str:
        return self._system

    def instruct(self, system_prompt: str) -> None:
        """The model is told this from now on."""
        self._system = system_prompt.strip()

    def copy(self, system_prompt: str = "") -> Conversation:
        """The same turns, which change no more; with another system prompt, if one is given."""
        copy = Conversation(system_prompt or self._system)
        copy._turns = [replace(turn) for turn in self._turns]
        copy._forgotten = self._forgotten
        copy._began, copy._told = self._began, dict(self._told)
        return copy

    def forget_as(self, copy: Conversation) -> None:
        """Forget what `copy` of this conversation has forgotten since it was made."""
        more = copy._forgotten - self._forgotten
        if more > 0:
            del self._turns[:more]
            self._forgotten = copy._forgotten

    def tell_time(self, turn: int, now: datetime) -> None:
        """Let this turn's question begin with the time if what the model knows of it is old.

        Decided once a turn, so that all revisions of the question begin alike.
        """
        if turn <= self._last_told_turn or self._began is None:
            return
        self._last_told_turn = turn
        known = [self._told[each.number] for each in self._turns if each.number in self._told]
        if now - max(known, default=self._began) >= _TIME_IS_OLD:
            self._told = {
                each.number: self._told[each.number]
                for each in self._turns
                if each.number in self._told
            }
            self._told[turn] = now

    def ask(self, turn: int, question: str) -> None:
        """The person said `question`: it is part of the conversation from now on."""
        self._turns.append(_Turn(turn, question))

    def answer(self, turn: int, text: str) -> None:
        """The reply to a turn is `text`, or is mended to it. Unknown turns are ignored."""
        for known in self._turns:
            if known.number == turn:
                known.answer = text

    def prompt(
        self, turn: int, question: str, count_tokens: CountTokens, limit: int
    ) -> list[ChatMessage]:
        """Messages for an answer to `question`, asked in this turn, at most `limit` tokens long.

        Whole turns are forgotten, oldest first, when they do not fit. Raises ModelError when the
        question alone is too long.
        """
        asked = _Turn(turn, question)
        kept = [known for known in self._turns if known.number != turn]
        messages = self._messages(kept, asked)
        if _fits(messages, count_tokens, limit):
            return messages
        forgotten = 0
        while kept and not _fits(messages, count_tokens, int(limit * _ROOM_AFTER_CUT)):
            del kept[0]
            forgotten += 1
            messages = self._messages(kept, asked)
        if not kept and not _fits(messages, count_tokens, limit):
            raise ModelError(
                "That was too long for the language model. Please say it in shorter parts."
            )
        self._turns = kept + [known for known in self._turns if known.number == turn]
        self._forgotten += forgotten
        return messages

    def _messages(self, turns: Sequence[_Turn], asked: _Turn) -> list[ChatMessage]:
        """A person who goes on before there was an answer says one thing in two parts.

        A turn whose answer is that of the turn before is left out: a small model that sees itself
        repeat something goes on repeating it.
        """
        messages = (
            [ChatMessage("system", escape_special_tokens(self._system))] if self._system else []
        )
        unanswered: list[str] = []
        before: list[str] = []
        for turn in turns:
            words = _WORD.findall(turn.answer.casefold())
            if len(words) > 2 and words == before:
                continue
            unanswered.append(self._said(turn))
            if turn.answer:
                messages.append(ChatMessage("user", escape_special_tokens(_joined(unanswered))))
                messages.append(ChatMessage("assistant", escape_special_tokens(turn.answer)))
                unanswered.clear()
                before = words
        last = _joined([*unanswered, self._said(asked)])
        messages.append(ChatMessage("user", escape_special_tokens(last)))
        return messages

    def _said(self, turn: _Turn) -> str:
        """A turn's question, with the time before it where that was told."""
        told = self._told.get(turn.number)
        if told is None or self._began is None or not turn.question:
            return turn.question
        text = _time(told) if told.date() == self._began.date() else _moment(told)
        return f"(It is now {text}.) {turn.question}"


def _moment(now: datetime) -> str:
    return f"{now:%A, %B} {now.day}, {now.year}, {_time(now)}"


def _time(now: datetime) -> str:
    return f"{now.hour % 12 or 12}:{now:%M} {'AM' if now.hour < 12 else 'PM'}"


def _joined(parts: Iterable[str]) -> str:
    return " ".join(part for part in parts if part)


def escape_special_tokens(said: str) -> str:
    """The same words, in which no model finds a mark of its chat template: a space breaks each.

    Every model's prompt goes through here. What each file could do by itself depends on the
    library: llama.cpp, transformers and the servers behind an API turn a whole prompt into tokens
    at once, and cannot tell the template's marks from those that were typed.
    """
    return _MARK.sub(r"\g<0> ", said)


def _fits(messages: Sequence[ChatMessage], count_tokens: CountTokens, limit: int) -> bool:
    most = sum(len(message.content.encode()) + _TEMPLATE_TOKENS for message in messages)
    return most <= limit or count_tokens(messages) <= limit
