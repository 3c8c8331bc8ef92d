"""Reads the settings: flags beat environment variables, which beat a file, which beats defaults.

The flag of a setting is `--` and its name, with underscores or dashes; its environment variable is
`WHISPERFUSION_` and its name in capitals; in a YAML file it is a key. Settings that had another
name answer to that as well, and so do the variables of the original program.
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import math
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, get_type_hints

import yaml

from fusion import __version__
from fusion.setting_field import AUTO
from fusion.settings import Settings

PREFIX = "WHISPERFUSION_"
FILE_NAME = "whisperfusion.yaml"

COMMON = (
    "llm",
    "openai_url",
    "whisper_model",
    "voice",
    "system_prompt",
    "max_clients",
    "host",
    "web_port",
    "token",
    "tls",
    "config",
)
"""What most people want to set, and `--help` shows."""

GROUPS = {
    "models": "which models do the work, and where they are kept",
    "GPU models": "TensorRT-LLM, PyTorch, and servers of others; see docs/gpu.md",
    "conversation": "how it answers",
    "listening": "what counts as speech, and when a turn is over; times in seconds",
    "interruption": "speaking over the reply",
    "serving": "who may connect, and where",
    "recording": "the flight recorder; `whisperfusion replay FILE` runs a session again",
    "settings": "where they come from",
}

EXAMPLES = """\
examples:
  %(prog)s --llm model.gguf                            another language model
  %(prog)s --openai_url http://localhost:8080/v1       one that another server runs
  %(prog)s --no-discover                               none of a server that is found here
  %(prog)s --tls --token "a secret"                    from a phone, for those who know it
  %(prog)s --host 127.0.0.1 --web_port 8080            for this machine alone
  %(prog)s --config home.yaml                          a file of lines like `max_clients: 2`
  %(prog)s replay FILE                                 a session again that --record kept
"""

RULES = f"""\
Each setting is also an environment variable, {PREFIX} and its name in capitals, as
{PREFIX}MAX_CLIENTS=8, and a key of the YAML file, as `max_clients: 8`. A flag beats a variable,
which beats the file. The file is --config, else {FILE_NAME} in the working folder, else in
~/.config/whisperfusion. Dashes do as well as underscores.
"""

# What the Docker scripts read, and is no setting.
_OTHER_VARIABLES = (f"{PREFIX}HOME",)
_TRUTHS = {"true": True, "yes": True, "on": True, "1": True}
_TRUTHS |= {"false": False, "no": False, "off": False, "0": False}

Field = dataclasses.Field[Any]
_FIELDS: dict[str, Field] = {item.name: item for item in dataclasses.fields(Settings)}
_KINDS = get_type_hints(Settings)
_NAMES = _FIELDS | {item.metadata["old"]: item for item in _FIELDS.values() if item.metadata["old"]}
"""Every name that a setting answers to."""


def parse(arguments: Sequence[str] | None = None) -> Settings:
    """Read the command line, the environment and the settings file.

    Ends the program with status 2 and one sentence on a mistake, with 0 after `--help`.
    """
    parser = _Parser()
    given = vars(parser.parse_args(sys.argv[1:] if arguments is None else arguments))
    try:
        variables = from_environment(os.environ)
        file = given.get("config", variables.get("config")) or usual_file()
        values = (from_file(Path(file).expanduser()) if file else {}) | variables | given
    except ValueError as error:
        parser.error(str(error))
    for name in unknown_variables(os.environ):
        known = [PREFIX + each.upper() for each in _FIELDS]
        print(f"{name} is no setting and changes nothing{_hint(name, known)}", file=sys.stderr)
    if "max_clients" in values and values.get("admission", AUTO) == AUTO:
        values["admission"] = "fixed"
    return Settings(**values | {"config": str(file)})


def flags(arguments: Sequence[str]) -> dict[str, Any]:
    """The settings that are given as flags, and no others. Ends the program as `parse` does."""
    return dict(vars(_Parser().parse_args(arguments)))


def usual_file() -> str:
    """The settings file where none is named; "" when there is none."""
    home = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    places = (Path(FILE_NAME), Path(home, "whisperfusion", FILE_NAME).expanduser())
    return next((str(place) for place in places if place.is_file()), "")


def from_file(path: Path) -> dict[str, Any]:
    """The settings of a YAML file. Raises ValueError with a sentence for a person."""
    try:
        # Every value comes as it is written, so that a token of 0123 is not the number 83.
        content = yaml.load(path.read_text("utf-8"), Loader=yaml.BaseLoader) or {}
    except OSError as error:
        raise ValueError(f"the settings file {path} cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"the settings file {path} is no UTF-8 text") from error
    except RecursionError as error:
        raise ValueError(f"the settings file {path} is nested too deeply") from error
    except yaml.YAMLError as error:
        raise ValueError(f"the settings file {path} is no YAML ({_where(error)})") from error
    if not isinstance(content, dict):
        raise ValueError(f"the settings file {path} must hold lines like `max_clients: 2`")
    values = {}
    for key, value in content.items():
        item = _NAMES.get(str(key).replace("-", "_"))
        if item is None or item.name == "config":
            raise ValueError(f"{path}: {key} is no setting{_hint(key, _FIELDS)}")
        if isinstance(value, list) and all(isinstance(each, str) for each in value):
            value = ",".join(value)
        if not isinstance(value, str):
            raise ValueError(f"{path}: {key} must be one value, or a list of them")
        values[item.name] = _read(item, value, f"{path}: {key}")
    return values


def from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    """The settings that variables name. Raises ValueError with a sentence for a person."""
    values = {}
    for item in _FIELDS.values():
        names = [PREFIX + item.name.upper()]
        names += [item.metadata["environment"]] if item.metadata["environment"] else []
        names += [PREFIX + item.metadata["old"].upper()] if item.metadata["old"] else []
        name = next((name for name in names if name in environment), None)
        if name:
            values[item.name] = _read(item, environment[name], name)
    return values


def unknown_variables(environment: Mapping[str, str]) -> list[str]:
    """Variables that look like ours and are not.

    They are no error: Kubernetes makes some (WHISPERFUSION_SERVICE_HOST) for a service of our name.
    """
    known = {PREFIX + name.upper() for name in _NAMES} | set(_OTHER_VARIABLES)
    return sorted(name for name in environment if name.startswith(PREFIX) and name not in known)


def _read(item: Field, text: str, where: str) -> Any:
    try:
        return read(item, text)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def read(item: Field, text: str) -> Any:
    """The value of a setting from its text. Raises ValueError that says what it may be."""
    kind, choices = _KINDS[item.name], item.metadata["choices"]
    if kind is bool:
        if text.lower() not in _TRUTHS:
            raise ValueError(f"{text!r} is neither true nor false")
        return _TRUTHS[text.lower()]
    if kind is str:
        if choices and text not in choices:
            raise ValueError(f"{text!r} is none of {', '.join(choices)}{_hint(text, choices)}")
        return text
    try:
        value = kind(text)
    except ValueError:
        name = "whole number" if kind is int else "number"
        raise ValueError(f"{text!r} is no {name}") from None
    least, most = item.metadata["range"]
    if not least <= value <= most:
        bounds = f"{least:g} or more" if most == math.inf else f"{least:g} to {most:g}"
        raise ValueError(f"{text} is out of range: it must be {bounds}")
    return value


def _reader(item: Field) -> Callable[[str], Any]:
    def value(text: str) -> Any:
        try:
            return read(item, text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return value


class _Parser(argparse.ArgumentParser):
    """The flags. What is not given is absent from the result.

    `whole` shows every setting in the help, else the common ones.
    """

    def __init__(self, *, whole: bool = False) -> None:
        super().__init__(
            usage="%(prog)s [--setting VALUE ...]; %(prog)s --help lists the settings",
            description="Talk with a computer that is your own: WhisperFusion's three servers.",
            epilog=RULES if whole else EXAMPLES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            argument_default=argparse.SUPPRESS,
            add_help=False,
            allow_abbrev=False,
        )
        # An option is found by its name in underscores, whatever it is written with.
        self._options: dict[str, str] = {}
        for title, items in _sections(whole).items():
            group = self.add_argument_group(title, GROUPS.get(title))
            for item in items:
                self._add(group, item)
        hidden = self.add_argument_group("hidden")  # without help it is not shown
        for item in () if whole else _FIELDS.values():
            if item.name not in COMMON:
                self._add(hidden, item, argparse.SUPPRESS)
        others = self.add_argument_group("help")
        others.add_argument("-h", "--help", action="help", help="show this with examples")
        others.add_argument("--help-all", action=_HelpAll, nargs=0, help="show every setting")
        version = f"WhisperFusion {__version__}"
        others.add_argument("--version", action="version", version=version, help="show the version")
        self._options["__help_all"] = "--help-all"

    def _add(self, group: Any, item: Field, about: str = "") -> None:
        boolean = _KINDS[item.name] is bool
        options: dict[str, Any] = {"action": argparse.BooleanOptionalAction} if boolean else {}
        if not boolean:
            options |= {"type": _reader(item), "metavar": _metavar(item)}
        group.add_argument(f"--{item.name}", help=about or _help(item), **options)
        names = [item.name]
        if item.metadata["old"]:
            names.append(item.metadata["old"])
            group.add_argument(f"--{names[1]}", dest=item.name, help=argparse.SUPPRESS, **options)
        for name in names:
            self._options[f"__{name}"] = f"--{name}"
            if boolean:
                self._options[f"__no_{name}"] = f"--no-{name}"

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse's, with dashes for underscores and a hint for what is misspelt."""
        result, unknown = self.parse_known_args([self._option(each) for each in args], namespace)
        if unknown:
            flag = unknown[0].partition("=")[0]
            if not flag.startswith("-"):
                self.error(f"{flag!r} is not understood: a setting begins with --")
            self.error(f"{flag} is no setting{_hint(flag, self._options.values())}")
        return result

    def _option(self, argument: str) -> str:
        """An argument as argparse knows it: the option's own spelling, where it is one."""
        name, equals, value = argument.partition("=")
        return self._options.get(name.replace("-", "_"), name) + equals + value

    def error(self, message: str) -> NoReturn:
        super().error(message.removeprefix("argument "))


class _HelpAll(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        _Parser(whole=True).print_help()
        parser.exit()


def _sections(whole: bool) -> dict[str, list[Field]]:
    """The settings that the help shows, below their titles."""
    if not whole:
        return {"the settings that matter most": [_FIELDS[name] for name in COMMON]}
    sections: dict[str, list[Field]] = {title: [] for title in GROUPS}
    for item in _FIELDS.values():
        sections.setdefault(item.metadata["group"], []).append(item)
    return sections


def _metavar(item: Field) -> str:
    if item.metadata["choices"]:
        return "|".join(item.metadata["choices"])
    return {int: "N", float: "X"}.get(_KINDS[item.name], "TEXT")


def _help(item: Field) -> str:
    default = {True: "on", False: "off", "": ""}.get(item.default, str(item.default))
    if isinstance(item.default, float):
        default = f"{item.default:g}"
    text: str = item.metadata["help"] + (f" (default: {default})" if default else "")
    return text.replace("%", "%%")


def _hint(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name.replace("-", "_"), list(known), 1)
    return f": did you mean {close[0]}?" if close else "; --help-all lists them all"


def _where(error: yaml.YAMLError) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        return f"line {error.problem_mark.line + 1}: {error.problem}"
    return " ".join(str(error).split())
