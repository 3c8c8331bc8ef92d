"""Thirty everyday questions to a language model, each alone and all in one conversation.

    python -m benchmarks.questions [--models NAME ...] [--show] [--json FILE]

They go through the language model's service, so with the program's own prompt, filters and limits,
and greedily. `questions.json` says by regular expression what counts as right, as acceptable and as
wrong; an answer that none fits is counted as unclear and wants reading (`--show` prints them all).
Beside them stand speed and memory of the model.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks.figures import median, report
from fusion.messages import Commit, Message, ReplyEnded, ReplyFailed, ReplyText, SessionStarted
from fusion.models.llms import LLMS
from fusion.settings import Settings
from language_models import llama_cpp
from language_models.base import LanguageModel
from language_models.speed import measure
from llm_service import LanguageModelService

QUESTIONS = Path(__file__).with_name("questions.json")
TIMEOUT = 120.0
NOW = datetime(2026, 11, 25, 15, 40)
"""The time that the rules of `questions.json` go by: a Wednesday."""


@dataclass(frozen=True)
class Answer:
    """What a model said; `verdict` is right, acceptable, wrong or unclear."""

    question: str
    text: str
    verdict: str
    first_words: float
    """Seconds to the first piece of text."""


def verdict(question: dict[str, Any], text: str, *, alone: bool) -> str:
    """Judge an answer by the rules that stand beside its question."""

    def fits(rules: Sequence[str]) -> bool:
        return any(re.search(rule, text, re.IGNORECASE | re.DOTALL) for rule in rules)

    right = question.get("alone", question["right"]) if alone else question["right"]
    if fits(question.get("wrong", ())) and not fits(right):
        return "wrong"
    if fits(right):
        return "wrong" if fits(question.get("wrong", ())) else "right"
    return "acceptable" if fits(question.get("acceptable", ())) else "unclear"


class Interview:
    """Asks a model through the service that the program runs it in."""

    def __init__(self, model: LanguageModel, settings: Settings) -> None:
        self._arrived = threading.Condition()
        self._messages: list[Message] = []
        self._service = LanguageModelService(model, settings, self._take, now=lambda: NOW)

    def _take(self, message: Message) -> None:
        with self._arrived:
            self._messages.append(message)
            self._arrived.notify_all()

    def meet(self, session: str) -> None:
        """Begin a conversation."""
        self._service.handle(SessionStarted(session, "", "", "en", "", ""))

    def ask(self, session: str, turn: int, question: str) -> tuple[str, float]:
        """The answer, and seconds to its first words."""
        began = time.monotonic()
        self._service.handle(Commit(session, turn, 1, question))
        with self._arrived:
            if not self._arrived.wait_for(lambda: self._ended(session, turn) is not None, TIMEOUT):
                raise SystemExit(f"no answer to {question!r} within {TIMEOUT:.0f} s")
            first = [
                message.at
                for message in self._messages
                if isinstance(message, ReplyText)
                and (message.session, message.turn) == (session, turn)
            ]
        return self._ended(session, turn) or "", (first[0] if first else time.monotonic()) - began

    def _ended(self, session: str, turn: int) -> str | None:
        ends = (m for m in self._messages if isinstance(m, ReplyEnded | ReplyFailed))
        found = next((m for m in ends if (m.session, m.turn) == (session, turn)), None)
        if found is None:
            return None
        return found.text if isinstance(found, ReplyEnded) else found.reason


def interview(model: LanguageModel, settings: Settings, *, alone: bool) -> Iterator[Answer]:
    """Ask all questions: each in a conversation of its own, or one after another in one."""
    person = Interview(model, settings)
    if not alone:
        person.meet("all")
    for number, question in enumerate(json.loads(QUESTIONS.read_text("utf-8")), start=1):
        session = f"alone-{number}" if alone else "all"
        if alone:
            person.meet(session)
        text, first_words = person.ask(session, number, question["ask"])
        found = verdict(question, text, alone=alone)
        yield Answer(question["ask"], " ".join(text.split()), found, first_words)


def examine(name: str) -> dict[str, Any]:
    """All figures of one model, in this process."""
    settings = dataclasses.replace(Settings(), llm=name)
    model = llama_cpp.load(settings)
    model.warm_up()
    speed = measure(model)
    result: dict[str, Any] = {"model": name}
    for kind in ("alone", "conversation"):
        answers = list(interview(model, settings, alone=kind == "alone"))
        counts = {
            found: sum(answer.verdict == found for answer in answers)
            for found in ("right", "acceptable", "wrong", "unclear")
        }
        result[kind] = counts | {
            "first words, s": round(median([answer.first_words for answer in answers]) or 0, 3)
        }
        result[f"{kind} answers"] = [dataclasses.asdict(answer) for answer in answers]
    model.close()
    return result | {
        "prompt tokens/s": round(speed.prompt, 1),
        "generated tokens/s": round(speed.generation, 1),
        "memory MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    tried = [llm.name for llm in LLMS if llm.tried]
    parser.add_argument("--models", nargs="+", default=tried, help="names of the model table")
    parser.add_argument("--show", action="store_true", help="print every answer")
    parser.add_argument("--json", type=Path, help="file for the figures and the answers")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(examine(options.one)))
        return
    results = []
    for name in options.models:
        # A process each, so that the memory is that of one model.
        command = [sys.executable, "-m", "benchmarks.questions", "--one", name]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        results.append(json.loads(output.splitlines()[-1]))
        if options.show:
            for kind in ("alone", "conversation"):
                for answer in results[-1][f"{kind} answers"]:
                    print(
                        f"{name} {kind:12} {answer['verdict']:10} {answer['question']}"
                        f"  →  {answer['text']}"
                    )
    summary = {
        each["model"]: {key: value for key, value in each.items() if not key.endswith("answers")}
        for each in results
    }
    report(summary, results, options.json)


if __name__ == "__main__":
    main()
