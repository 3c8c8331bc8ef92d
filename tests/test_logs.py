"""Log lines, as text and as JSON."""

from __future__ import annotations

import json
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusion import logs


def record(message: str, **extra: object) -> logging.LogRecord:
    made = logging.LogRecord("here", logging.INFO, __file__, 1, message, None, None)
    made.__dict__.update(extra)
    return made


def failed(message: str) -> logging.LogRecord:
    try:
        raise ValueError("GET /?token=very-secret&key=also-secret HTTP/1.1")
    except ValueError as error:
        made = record(message)
        made.exc_info = (type(error), error, error.__traceback__)
    return made


def test_a_line_says_what_it_is_about() -> None:
    line = logs.TextLines("transcriber").format(record("committed", **logs.about("5e55", 3)))
    assert line.endswith("transcriber: INFO [session 5e55 turn 3] committed")
    assert logs.TextLines("main").format(record("ready")).endswith("main: INFO ready")


def test_json_has_a_field_for_each() -> None:
    line = logs.JsonLines("transcriber").format(record("committed", **logs.about("5e55", 3)))
    fields = json.loads(line)
    assert fields.pop("time").endswith("+00:00")
    assert fields == {
        "level": "info",
        "process": "transcriber",
        "logger": "here",
        "message": "committed",
        "session": "5e55",
        "turn": 3,
    }
    assert "turn" not in json.loads(logs.JsonLines("main").format(record("x", **logs.about("5"))))


@given(st.text())
def test_a_message_is_one_line(text: str) -> None:
    assert len(logs.TextLines("main").format(record(text.replace("%", ""))).splitlines()) <= 1
    assert len(logs.JsonLines("main").format(record(text.replace("%", ""))).split("\n")) == 1


@pytest.mark.parametrize("form", [logs.TextLines("main"), logs.JsonLines("main")])
def test_a_traceback_holds_no_token_and_no_key(form: logging.Formatter) -> None:
    line = form.format(failed("opening handshake failed"))
    assert "Traceback" in line and "token=…" in line
    assert "secret" not in line


def test_what_a_sentence_quotes_is_not_logged() -> None:
    said = "The language 'my secret' is not known; it knows \"en\", and isn't it so?"
    assert logs.without_quotes(said) == "The language … is not known; it knows …, and isn't it so?"
