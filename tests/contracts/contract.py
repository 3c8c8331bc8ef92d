"""A stand-in for a library, made from the recorded signatures of the real one.

Every function and class refuses an argument that the real one does not have, and every call is
kept with the thread that made it.
"""

from __future__ import annotations

import enum
import inspect
import json
import os
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

SIMPLE_TYPES: dict[str, Callable[[Any], bool]] = {
    "int": lambda v: type(v) is int,
    "float": lambda v: type(v) in (int, float),
    "bool": lambda v: type(v) is bool,
    "str": lambda v: isinstance(v, str),
    "path": lambda v: isinstance(v, (str, os.PathLike)),
    "datetime.timedelta": lambda v: isinstance(v, timedelta),
    "None": lambda v: v is None,
}


@dataclass(frozen=True)
class Call:
    """One call into the stand-in: the arguments that were given, by name."""

    name: str
    arguments: dict[str, Any]
    thread: int


class Contract:
    """The recorded interface of one version of a library."""

    def __init__(self, file: Path) -> None:
        self._entries = json.loads(file.read_text())
        self.calls: list[Call] = []

    def made(self, name: str) -> list[Call]:
        """The calls whose recorded name ends with `name`."""
        return [call for call in self.calls if call.name.endswith(name)]

    def signature(self, name: str) -> inspect.Signature:
        parameters = [
            inspect.Parameter(
                item["name"],
                getattr(inspect.Parameter, item["kind"].upper()),
                default=inspect.Parameter.empty if item["required"] else None,
            )
            if item["kind"] != "var_keyword"
            else inspect.Parameter(item["name"], inspect.Parameter.VAR_KEYWORD)
            for item in self._entries[name]["params"]
            if item["kind"] != "attribute_only"
        ]
        return inspect.Signature(parameters)

    def record(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Bind a call against the real signature; TypeError if it does not fit."""
        try:
            arguments = dict(self.signature(name).bind(*args, **kwargs).arguments)
        except TypeError as error:
            raise TypeError(f"{name}: {error}") from None
        if self._entries[name].get("pybind"):
            self._check_types(name, arguments)
        self.calls.append(Call(name, arguments, threading.get_ident()))
        return arguments

    def function(self, name: str, behaviour: Callable[..., Any]) -> Callable[..., Any]:
        """A function that does `behaviour` with the bound arguments."""

        def stand_in(*args: Any, **kwargs: Any) -> Any:
            return behaviour(**self.record(name, args, kwargs))

        return stand_in

    def value_class(self, name: str) -> type:
        """A class of values: it keeps what it was made with, and only that."""
        entry = name if name in self._entries else f"{name}.__init__"
        contract = self

        class Value:
            def __init__(self, *args: Any, **kwargs: Any) -> None:
                self.__dict__.update(contract.record(entry, args, kwargs))

        Value.__name__ = name.rpartition(".")[2]
        return Value

    def enumeration(self, entry: str, name: str) -> type[enum.Enum]:
        members = self._entries[entry]["values"][name]
        return enum.Enum(name, [(member, member) for member in members])  # type: ignore[return-value]

    def attributes(self, name: str) -> set[str]:
        """The names of what an object has that the library returns."""
        return {re.split(r"\W", item)[0] for item in self._entries[name]["attributes"]}

    def _check_types(self, name: str, arguments: dict[str, Any]) -> None:
        # A pybind function takes no value of another type, not even a NumPy integer for a list's.
        types = {item["name"]: item["type"] for item in self._entries[name]["params"]}
        for argument, value in arguments.items():
            if not _fits(types[argument], value):
                raise TypeError(f"{name}: {argument} is {value!r} and must be {types[argument]}")


def _fits(type_text: str, value: Any) -> bool:
    return any(_fits_one(part, value) for part in type_text.split("|"))


def _fits_one(type_text: str, value: Any) -> bool:
    if match := re.fullmatch(r"list\[(.*)\]", type_text):
        return isinstance(value, list) and all(_fits(match[1], item) for item in value)
    if type_text in SIMPLE_TYPES:
        return SIMPLE_TYPES[type_text](value)
    return type(value).__name__ == type_text
