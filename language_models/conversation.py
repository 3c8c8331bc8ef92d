"""What a session's language model remembers, and the prompt that it becomes. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from fusion.errors import ModelError
from fusion.tools import ToolCall, presentable, presentable_id
from language_models.base import ChatMessage

# When the history no longer fits, it is cut to this share of the room at once. Cutting a little in
# every turn would change the beginning of every prompt, and the prompt cache would never help.
_ROOM_AFTER_CUT = 0.6

# No tokenizer of ours makes more tokens of a text than it has bytes; the frame that a chat
# template puts around a message is shorter than this.
_TEMPLATE_TOKENS = 16

# How those texts begin that a tokenizer takes for marks of a chat template: <|im_end|>, <｜User｜>,
# </s>, <end_of_turn>, [INST], [|user|], <tool_response>, … Whoever types one, has the model write
# one or a tool return it would end a turn and speak in another's name.
_MARK = re.compile(
    r"[<\[](?=[|｜])"
    r"|<(?=/?(?i:tools?|tool_\w+|function|parameter)\b)"
    r"|<(?=/?(?i:s|unk|pad|mask|cls|sep|[be]os\w*|(?:start|end)_of_\w+)>)"
    r"|\[(?=/?[A-Z_]{4,}\])"
)

# What a tool returned is cut to this many characters, and no further, where a prompt lacks room.
_SHORTEST_RESULT = 200

NO_RESULT = "The tool returned nothing."

# How old what a model knows of the time may be.
_TIME_IS_OLD = timedelta(minutes=2)

_WORD = re.compile(r"\w+")

CountTokens = Callable[[Sequence[ChatMessage]], int]


@dataclass
class _Turn:
    number: int
    question: str
    answer: str = ""
    exchange: tuple[ChatMessage, ...] = ()
    """What came between question and answer: calls of tools, and what they returned."""


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
                continue
            if not self._turns or (role == "assistant" and self._turns[-1].answer):
                self._turns.append(_Turn(0, ""))  # the machine spoke first, or went on by itself
            if role == "assistant":
                self._turns[-1].answer = text
            else:
                _add_exchange(self._turns[-1], role, json.loads(text))

    @property
    def system_prompt(self) -> str:
        return self._system

    def instruct(self, system_prompt: str) -> None:
        """The model is told this from now on."""
        self._system = system_prompt.strip()

    def forget_exchanges(self) -> None:
        """For a model that knows no tools: of each turn, question and answer are left."""
        for turn in self._turns:
            turn.exchange = ()

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

    def exchange(self, turn: int, messages: Iterable[ChatMessage]) -> None:
        """Before its answer a turn had these calls and results. Unknown turns are ignored."""
        for known in self._turns:
            if known.number == turn:
                known.exchange = tuple(messages)

    def prompt(
        self,
        turn: int,
        question: str,
        count_tokens: CountTokens,
        limit: int,
        exchange: Sequence[ChatMessage] = (),
        overhead: int = 0,
    ) -> list[ChatMessage]:
        """Messages for an answer to `question`, asked in this turn, at most `limit` tokens long.

        `exchange` is what this turn's tools were asked and returned so far. Whole turns are
        forgotten, oldest first, when they do not fit, and after them the ends of what tools
        returned. `overhead` is at least as many tokens as whatever else belongs to the prompt.
        Raises ModelError when the question alone is too long.
        """
        asked = _Turn(turn, question, exchange=tuple(exchange))
        kept = [known for known in self._turns if known.number != turn]
        messages = self._messages(kept, asked)
        if _fits(messages, count_tokens, limit, overhead):
            return messages
        forgotten = 0
        room = int(limit * _ROOM_AFTER_CUT)
        while kept and not _fits(messages, count_tokens, room, overhead):
            del kept[0]
            forgotten += 1
            messages = self._messages(kept, asked)
        while not kept and not _fits(messages, count_tokens, limit, overhead):
            if not _shorten(asked):
                break
            messages = self._messages(kept, asked)
        if not kept and not _fits(messages, count_tokens, limit, overhead):
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
            if len(words) > 2 and words == before and not turn.exchange:
                continue
            unanswered.append(self._said(turn))
            if turn.answer or turn.exchange:
                messages += _asked(unanswered, messages)
                messages += _escaped(turn.exchange)
                unanswered.clear()
            if turn.answer:
                messages.append(ChatMessage("assistant", escape_special_tokens(turn.answer)))
                before = words
        messages += _asked([*unanswered, self._said(asked)], messages)
        return [*messages, *_escaped(asked.exchange)]

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


def _add_exchange(turn: _Turn, role: str, fields: dict[str, str]) -> None:
    """Take a call or a result of a history into a turn; a result that nobody asked for is none."""
    *before, last = turn.exchange or (ChatMessage("assistant", ""),)
    if role == "tool_call":
        call = presentable(ToolCall(fields["id"], fields["name"], fields["arguments"]))
        if turn.answer:  # what was said before the call
            turn.exchange += (ChatMessage("assistant", turn.answer, (call,)),)
            turn.answer = ""
        elif last.calls:
            turn.exchange = (*before, replace(last, calls=(*last.calls, call)))
        else:
            turn.exchange += (ChatMessage("assistant", "", (call,)),)
        return
    calls = {call.id: call for message in turn.exchange for call in message.calls}
    if (known := calls.get(presentable_id(fields["id"]))) is not None:
        result = ChatMessage("tool", fields["content"], call_id=known.id, name=known.name)
        turn.exchange += (result,)


def _asked(parts: Sequence[str], before: Sequence[ChatMessage]) -> list[ChatMessage]:
    """The question that these parts make; none where the reply is to what a tool returned."""
    question = _joined(parts)
    if not question and before and before[-1].role == "tool":
        return []
    return [ChatMessage("user", escape_special_tokens(question))]


def _escaped(exchange: Iterable[ChatMessage]) -> list[ChatMessage]:
    """Calls and results as a prompt takes them: as data, and a result to each call."""
    messages: list[ChatMessage] = []
    results = {message.call_id: message for message in exchange if message.role == "tool"}
    for message in exchange:
        if message.role == "tool":
            continue
        calls = tuple(
            replace(call, arguments=escape_special_tokens(call.arguments)) for call in message.calls
        )
        content = escape_special_tokens(message.content)
        messages.append(replace(message, content=content, calls=calls))
        for call in calls:
            known = results.get(call.id) or ChatMessage("tool", "", call_id=call.id, name=call.name)
            content = escape_special_tokens(known.content).strip() or NO_RESULT
            messages.append(replace(known, content=content))
    return messages


def _shorten(turn: _Turn) -> bool:
    """Halve the longest of what its tools returned; False where that is short already."""
    longest = max((len(m.content) for m in turn.exchange if m.role == "tool"), default=0)
    if longest <= _SHORTEST_RESULT:
        return False
    turn.exchange = tuple(
        replace(message, content=message.content[: longest // 2] + " […]")
        if message.role == "tool" and len(message.content) == longest
        else message
        for message in turn.exchange
    )
    return True


def _fits(
    messages: Sequence[ChatMessage], count_tokens: CountTokens, limit: int, overhead: int
) -> bool:
    most = overhead + sum(len(message.content.encode()) + _TEMPLATE_TOKENS for message in messages)
    most += sum(
        len(call.name) + len(call.arguments.encode()) + _TEMPLATE_TOKENS
        for message in messages
        for call in message.calls
    )
    return most <= limit or count_tokens(messages) <= limit
