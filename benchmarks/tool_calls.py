"""How often a language model calls a tool when it should, and only then.

    python -m benchmarks.tool_calls --llm qwen2.5-coder-1.5b

Each question is asked as the first of a conversation, and again after one and after two that needed
no tool.
"""

from __future__ import annotations

import argparse
import json

from benchmarks.tools import TOOLS
from fusion.errors import ModelError
from fusion.settings import Settings
from fusion.tools import Tool, parse_tools
from language_models import llama_cpp
from language_models.base import Cancellation, ChatMessage, GenerationRequest, LanguageModel
from language_models.prompts import with_tools
from language_models.reading import Reading

TIME = {"name": "get_time", "description": "Tell the current time and date."}
TIMER = {
    "name": "set_timer",
    "description": "Set a timer that rings after so many seconds.",
    "parameters": {
        "type": "object",
        "properties": {"seconds": {"type": "integer", "description": "how long, in seconds"}},
        "required": ["seconds"],
    },
}
END = {"name": "end_conversation", "description": "End it, when the person says goodbye."}

QUESTIONS = (
    ("What is the weather in Paris?", "get_weather"),
    ("How warm is it in Berlin today?", "get_weather"),
    ("Do I need an umbrella in London?", "get_weather"),
    ("Set a timer for five minutes.", "set_timer"),
    ("Please ring in twenty seconds.", "set_timer"),
    ("Goodbye.", "end_conversation"),
    ("How are you?", ""),
    ("What is the capital of France?", ""),
    ("Tell me a joke.", ""),
    ("How old is the Brooklyn Bridge?", ""),
)
HELLO = (ChatMessage("user", "Hello."), ChatMessage("assistant", "Hello! How can I help you?"))
TOWER = (
    ChatMessage("user", "Who built the Eiffel Tower?"),
    ChatMessage("assistant", "Gustave Eiffel's company built it."),
)
BEFORE = {
    "as the first question": (),
    "after a plain turn": HELLO,
    "after two plain turns": (*HELLO, *TOWER),
}


def called(model: LanguageModel, tools: tuple[Tool, ...], said: tuple[ChatMessage, ...]) -> str:
    """The name of the tool that a model calls first; "" where it answers."""
    system = with_tools(Settings().system_prompt)
    moment = "It is Wednesday, November 25, 2026, 2:15 PM."
    messages = (ChatMessage("system", f"{system} {moment}"), *said)
    for must_call in (False, True):
        request = GenerationRequest(messages, 160, tools=tools, must_call=must_call)
        reading = Reading(model, request, Cancellation(), 100)
        for _ in reading.pieces():
            pass
        if not reading.wants_to_call:
            break
    return reading.calls[0].name if reading.calls else ""


def main(llm: str) -> None:
    tools = parse_tools([*TOOLS, TIME, TIMER, END])
    model = llama_cpp.load(Settings(llm=llm, max_clients=1))
    for when, before in BEFORE.items():
        right = 0
        for question, wanted in QUESTIONS:
            try:
                found = called(model, tools, (*before, ChatMessage("user", question)))
            except ModelError as error:
                found = str(error)
            right += found == wanted
            if found != wanted:
                print(json.dumps({"asked": question, "wanted": wanted, "called": found}))
        print(f"{llm}: right {right} times of {len(QUESTIONS)} {when}")
    model.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--llm", default="qwen2.5-coder-1.5b")
    main(parser.parse_args().llm)
