"""What a session is told and what follows from it, as JSON and back. Pure.

A recording comes from elsewhere, in a fault report perhaps: what it holds is checked against the
types of the methods that it calls and of the messages that it names, and nothing else is made.
"""

from __future__ import annotations

import dataclasses
import inspect
import types
from collections import Counter
from collections.abc import Mapping
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from fusion.messages import (
    ClauseSpoken,
    Message,
    ReplyProgress,
    SpeechEnded,
    SpeechStarted,
    Wish,
)
from fusion.tools import ToolOffer
from whisper_live.events import (
    Event,
    PredictTurn,
    Revision,
    Tell,
    ToLanguageModel,
    ToVoice,
    Transcribe,
)
from whisper_live.flight_recorder.format import Entry, RecordingError
from whisper_live.followed_session import INPUTS
from whisper_live.handshake import Changes, Wanted
from whisper_live.session import Session

_KINDS = {kind.__name__: kind for kind in (*get_args(Message), Wish, Changes, Wanted, ToolOffer)}
"""What may be made of a recording where there is a choice, by name."""

# Arguments that are what the session had asked for: by name in the file.
_REQUESTS = ("job", "revision")

_FRAME = 512


class Requests:
    """Names what a session asks its models for, so that an answer can say to what it is one.

    A name says what is asked about which turn, so a program that asks for more than the recorded
    one did still knows the answers to what both ask for.
    """

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._names: WeakKeyDictionary[Transcribe | Revision, str] = WeakKeyDictionary()

    def add(self, request: Transcribe | PredictTurn) -> str:
        """The name of a request that was made just now."""
        if isinstance(request, PredictTurn):
            name = f"end of {request.revision.turn}.{request.revision.number}"
            self._names[request.revision] = name
            return name
        if request.revision is not None:
            name = f"text of {request.turn}.{request.revision.number}"
        else:
            name = f"{'live' if request.segment is None else 'segment'} text of {request.turn}"
            self._counts[name] += 1
            name += f".{self._counts[name]}"
        self._names[request] = name
        return name

    def name(self, asked: Transcribe | Revision) -> str:
        """The name of the latest request about this; empty for what was never asked."""
        return self._names.get(asked, "")


def call(name: str, given: Mapping[str, Any], now: float, requests: Requests) -> Entry:
    """The entry of a method call: `given` are its arguments by their names."""
    arguments: dict[str, Any] = {}
    data = b""
    for key, value in given.items():
        if key in _REQUESTS:
            arguments[key] = requests.name(value)
        elif key == "frame":
            data = np.ascontiguousarray(value, "<f4").tobytes()
        elif key != "now":
            arguments[key] = plain(value)
    return Entry({"in": name, "at": now, **({"given": arguments} if arguments else {})}, data)


def event(event: Event, requests: Requests) -> dict[str, Any]:
    """What an event says, as JSON. What is asked of a model gets its name."""
    if isinstance(event, Transcribe):
        revision = None if event.revision is None else event.revision.number
        asked = {"priority": event.priority.name, "revision": revision}
        asked |= {"segment": event.segment is not None, "samples": len(event.audio)}
        return {"is": "Transcribe", "request": requests.add(event), "turn": event.turn, **asked}
    if isinstance(event, PredictTurn):
        about = {"turn": event.revision.turn, "revision": event.revision.number}
        name = requests.add(event)
        return {"is": "PredictTurn", "request": name, **about, "samples": len(event.audio)}
    if isinstance(event, Tell):
        return {"is": "Tell", "fields": plain(event.fields)}
    if isinstance(event, ToLanguageModel | ToVoice):
        return {"is": type(event).__name__, "message": plain(event.message)}
    return {"is": "TurnTimeline", **{k: plain(v) for k, v in vars(event).items()}}


def plain(value: Any) -> Any:
    """A value of ours as JSON has it: a dataclass is an object that names its class."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = (each.name for each in dataclasses.fields(value))
        return {"is": type(value).__name__, **{n: plain(getattr(value, n)) for n in names}}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, dict):
        return {str(key): plain(each) for key, each in value.items()}
    return value


def arguments(entry: Entry, asked: Mapping[str, Transcribe | Revision]) -> dict[str, Any]:
    """The arguments of a call, from its entry; `asked` are the requests by their names.

    Raises RecordingError for what that method does not take, and KeyError with the name of a
    request that was never made.
    """
    hints, required = _parameters(str(entry.fields.get("in")))
    given = entry.fields.get("given", {})
    if not isinstance(given, dict) or not given.keys() <= hints.keys():
        raise RecordingError(f"It calls {entry.fields['in']} with what that does not take.")
    result = {}
    for name, hint in hints.items():
        if name == "now":
            result[name] = decoded(entry.fields.get("at"), float)
        elif name == "frame":
            result[name] = _frame(entry.data)
        elif name in _REQUESTS and name in given:
            result[name] = _asked(given[name], hint, asked)
        elif name in given:
            result[name] = decoded(given[name], hint)
    if not required <= result.keys():
        raise RecordingError(f"It calls {entry.fields['in']} without all that this takes.")
    return result


def decoded(value: Any, hint: Any) -> Any:
    """A value of the type that `hint` names, of what `plain` made. Raises RecordingError."""
    origin, options = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return _one_of(value, options)
    if origin is Literal and value in options:
        return value
    if origin is tuple and isinstance(value, list):
        hints = [options[0]] * len(value) if options[1:] == (...,) else list(options)
        if len(hints) == len(value):
            return tuple(decoded(one, of) for one, of in zip(value, hints, strict=True))
    elif dataclasses.is_dataclass(hint) and isinstance(value, dict):
        return _made(value, hint)
    elif hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    elif isinstance(hint, type) and type(value) is hint:
        return value
    kind = getattr(hint, "__name__", hint)
    raise RecordingError(f"It holds {_short(value)} where {kind} should be.")


def _one_of(value: Any, options: tuple[Any, ...]) -> Any:
    if value is None and type(None) in options:
        return None
    named = _KINDS.get(str(value.get("is"))) if isinstance(value, dict) else None
    for option in options:
        if named is not None and option is not named:
            continue
        try:
            return decoded(value, option)
        except RecordingError:
            continue
    raise RecordingError(f"It holds {_short(value)}, which nothing there may be.")


def _made(value: dict[str, Any], kind: Any) -> Any:
    hints = _fields(kind)
    fields = {name: each for name, each in value.items() if name != "is"}
    if value.get("is") != kind.__name__ or not fields.keys() <= hints.keys():
        raise RecordingError(f"It holds {_short(value)}, which is no {kind.__name__}.")
    try:
        return kind(**{name: decoded(each, hints[name]) for name, each in fields.items()})
    except TypeError as error:
        raise RecordingError(f"A {kind.__name__} in it lacks something.") from error


def _asked(name: Any, hint: Any, asked: Mapping[str, Transcribe | Revision]) -> Any:
    request = asked[decoded(name, str)]
    if not isinstance(request, hint):
        raise KeyError(name)
    return request


def _frame(data: bytes) -> NDArray[np.float32]:
    if len(data) != 4 * _FRAME:
        raise RecordingError(f"It holds a frame of {len(data)} bytes, and all have {4 * _FRAME}.")
    return np.frombuffer(data, "<f4").astype(np.float32)


def _short(value: Any) -> str:
    return repr(value)[:80]


@cache
def _parameters(name: str) -> tuple[dict[str, Any], set[str]]:
    """What a method takes, with the types, and what of that it has to get."""
    if name not in INPUTS:
        raise RecordingError(f"It calls {_short(name)}, which no session has.")
    method = getattr(Session, name)
    hints = {key: hint for key, hint in get_type_hints(method).items() if key != "return"}
    if name == "received":  # all other messages go the other way
        hints["message"] = ReplyProgress | SpeechStarted | ClauseSpoken | SpeechEnded
    parameters = inspect.signature(method).parameters
    return hints, {key for key in hints if parameters[key].default is inspect.Parameter.empty}


@cache
def _fields(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)
