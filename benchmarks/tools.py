"""The loop of call, result and spoken answer, with a running server and a tool of this client.

    make run ARGS="--llm qwen2.5-coder-1.5b"
    python -m benchmarks.tools
    python -m benchmarks.tools --tool_seconds 4 "What is the weather in Paris?"

Each question is a session of its own. What came and when is printed, in seconds since the question.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from dataclasses import dataclass, field
from typing import Any

from whisper_live.client.conversation import Conversation, Server, talk
from whisper_live.client.events import Failure, Notice, ReplyText, Sound

TOOLS = (
    {
        "name": "get_weather",
        "description": "Tell the weather in a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
)
RESULTS = {"get_weather": "Rain, 8 degrees."}
QUESTIONS = ("What is the weather in Paris?", "What is the capital of France?")


@dataclass
class Asked:
    """What came of one question: lines to print, the calls, and the reply that was spoken."""

    lines: list[str] = field(default_factory=list)
    calls: list[dict[str, Any]] = field(default_factory=list)
    ended: list[dict[str, Any]] = field(default_factory=list)
    reply: str = ""
    spoken: str = ""
    seconds_of_sound: float = 0.0


async def ask(
    server: Server,
    question: str,
    *,
    tool_seconds: float = 0.0,
    fails: str = "",
    choice: str = "auto",
) -> Asked:
    """Type a question; carry out what is called, in so many seconds, or have it fail.

    `choice` is the handshake's `tool_choice`.
    """
    asked = Asked()
    working: list[asyncio.Task[None]] = []
    fields = {"tools": TOOLS, "tool_choice": choice, "buffer_lead": 60.0}
    async with talk(server, **fields) as conversation:
        began = time.monotonic()
        await conversation.command("say", text=question)
        async for event in conversation.events():
            at = f"{time.monotonic() - began:5.1f}"
            if isinstance(event, Failure):
                asked.lines.append(f"{at}  error: {event.message}")
                break
            if isinstance(event, Sound):
                if not asked.seconds_of_sound:
                    asked.lines.append(f"{at}  first sound")
                asked.seconds_of_sound += len(event.samples) / 24_000
            elif isinstance(event, ReplyText) and event.final:
                asked.reply = event.text
            elif isinstance(event, Notice) and event.name == "tool_call":
                call = dict(event.fields)
                asked.calls.append(call)
                asked.lines.append(f"{at}  calls {call['name']} {call['arguments']}")
                if not call["by_server"]:
                    output = {"output": fails or RESULTS[call["name"]], "failed": bool(fails)}
                    works = _answer(conversation, tool_seconds, id=call["id"], **output)
                    working.append(asyncio.create_task(works))
            elif isinstance(event, Notice) and event.name == "tool_ended":
                asked.ended.append(dict(event.fields))
                state = event.fields["message"] or "it has the result"
                asked.lines.append(f"{at}  {event.fields['name']}: {state}")
            elif isinstance(event, Notice) and event.name == "clause":
                asked.lines.append(f"{at}  says {str(event.fields['text']).strip()!r}")
            elif isinstance(event, Notice) and event.name == "reply_end":
                asked.spoken = str(event.fields["spoken"])
                break
    return asked


async def _answer(conversation: Conversation, seconds: float, **result: object) -> None:
    await asyncio.sleep(seconds)
    await conversation.command("tool_result", **result)


async def _main(options: argparse.Namespace) -> None:
    server = Server(options.host, options.port, options.speech_port, options.token)
    for question in options.questions or QUESTIONS:
        print(question)
        asked = await ask(
            server, question, tool_seconds=options.tool_seconds, choice=options.choice
        )
        print("\n".join(asked.lines))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("questions", nargs="*", help="questions of your own")
    parser.add_argument("--tool_seconds", type=float, default=0.3, help="how long the tool takes")
    parser.add_argument("--choice", default="auto", help="auto, or required: it has to call one")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=6006)
    parser.add_argument("--speech_port", type=int, default=8888)
    parser.add_argument("--token", default="")
    asyncio.run(_main(parser.parse_args()))
