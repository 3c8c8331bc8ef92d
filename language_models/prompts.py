"""The prompt formats of models that come without a chat template of their own.

A TensorRT-LLM engine holds weights alone, so the text around a conversation, and what ends a reply,
is written here. The token ids are those of the models' published tokenizers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from fusion.settings import WITHOUT_TOOLS
from fusion.tools import Tool, ToolCall
from language_models.base import ChatMessage
from language_models.chat_json import tools_as_json

# What makes Qwen 2.5 Coder 1.5B call most often, of several sentences that were tried.
_WITH_TOOLS = "Use a tool where it helps, and never describe one."

# What templates write around tools, at most.
_AROUND_TOOLS = 800


def with_tools(system_prompt: str) -> str:
    """The system prompt of a model that has tools: it does not say that there are none."""
    return system_prompt.replace(WITHOUT_TOOLS, _WITH_TOOLS)


def size_in_prompt(tools: Sequence[Tool]) -> int:
    """No fewer tokens than the description of tools has in a prompt."""
    if not tools:
        return 0
    return _AROUND_TOOLS + sum(len(json.dumps(tool.as_json()).encode()) for tool in tools)


NOTHING = r"(?!)"
"""A regular expression that fits nowhere."""


# As Hermes 2 Pro was trained (https://github.com/NousResearch/Hermes-Function-Calling), in fewer
# words.
_HERMES_TOOLS = """\
You may call one or more of these functions. Here are their signatures:
<tools>
{}
</tools>
For each call, write a JSON object with the function's name and its arguments within tags:
<tool_call>
{"name": <function-name>, "arguments": <args-dict>}
</tool_call>"""


@dataclass(frozen=True)
class PromptFormat:
    """How one family of models reads a conversation.

    `parts` is what a message of each role becomes ("{}" is its text); `reply` is what the model's
    answer follows. `stop_ids` end a reply: its regular end first, then the end of a text, and the
    tokens with which a model begins to speak in another's name. `stop_strings` end it too, for a
    model that goes on writing the conversation by itself. `reserved` is a regular expression of the
    plain words that only the format itself may write; special tokens in what was said are broken
    before, by `conversation.escape_special_tokens`.
    """

    parts: dict[str, str]
    reply: str
    stop_ids: tuple[int, ...]
    stop_strings: tuple[str, ...] = ()
    reserved: str = NOTHING

    @property
    def takes_tools(self) -> bool:
        """Whether it has a place for tools, their calls and results: those of Hermes 2 Pro."""
        return "tool" in self.parts

    def render(self, messages: Sequence[ChatMessage], tools: Sequence[Tool] = ()) -> str:
        """The prompt for these messages, up to where the reply begins."""
        if tools and messages[0].role != "system":
            messages = (ChatMessage("system", ""), *messages)
        parts = (
            self.parts[message.role].replace("{}", self._content(message, tools), 1)
            for message in messages
        )
        return "".join(parts) + self.reply

    def _content(self, message: ChatMessage, tools: Sequence[Tool]) -> str:
        content = self.clean(message.content)
        if message.role == "system" and tools:
            described = "\n".join(json.dumps(tool) for tool in tools_as_json(tools))
            return f"{content}\n\n{_HERMES_TOOLS.replace('{}', described)}".strip()
        calls = "\n".join(map(_hermes_call, message.calls))
        return f"{content}\n{calls}".strip() if calls else content

    def clean(self, text: str) -> str:
        """`text` without what would read as part of the format.

        Repeated, as taking out one word can put together another: `InstOutput:ruct:`.
        """
        while (cleaned := re.sub(self.reserved, "", text)) != text:
            text = cleaned
        return text.strip()


def _hermes_call(call: ToolCall) -> str:
    written = json.dumps({"name": call.name, "arguments": json.loads(call.arguments)})
    return f"<tool_call>\n{written}\n</tool_call>"


PHI_2 = PromptFormat(
    parts={"system": "{}\n", "user": "Instruct: {}\n", "assistant": "Output: {}\n"},
    reply="Output:",
    stop_ids=(50256,),
    stop_strings=("\nInstruct:", "Instruct:"),
    reserved="Instruct:|Output:",
)

PHI_3 = PromptFormat(
    parts={
        "system": "<|system|>\n{}<|end|>\n",
        "user": "<|user|>\n{}<|end|>\n",
        "assistant": "<|assistant|>\n{}<|end|>\n",
    },
    reply="<|assistant|>",
    stop_ids=(32007, 32000, 32001, 32010),
)

CHATML = PromptFormat(
    parts={
        "system": "<|im_start|>system\n{}<|im_end|>\n",
        "user": "<|im_start|>user\n{}<|im_end|>\n",
        "assistant": "<|im_start|>assistant\n{}<|im_end|>\n",
        "tool": "<|im_start|>tool\n<tool_response>\n{}\n</tool_response>\n<|im_end|>\n",
    },
    reply="<|im_start|>assistant\n",
    stop_ids=(32000, 2, 32001),
)

PHI_FORMATS = {
    "phi-2": PHI_2,
    "Phi-3-mini-4k-instruct": PHI_3,
    "Phi-3-mini-128k-instruct": PHI_3,
}
"""By `--phi_model_type`."""


class StopStringFilter:
    """Ends a reply at the first stop string, wherever the pieces of the stream are cut.

    What may be the beginning of a stop string is held back until the next piece decides.
    """

    def __init__(self, stop_strings: Sequence[str]) -> None:
        self._stop_strings = tuple(stop_strings)
        self._held = ""
        self.complete = False

    def push(self, piece: str) -> str:
        """What of the reply is certain now. After a stop string `complete` is set."""
        text = self._held + piece
        found = [at for stop in self._stop_strings if (at := text.find(stop)) >= 0]
        self.complete = bool(found)
        certain = min(found) if found else len(text) - self._undecided(text)
        self._held = "" if found else text[certain:]
        return text[:certain]

    def finish(self) -> str:
        """What was held back, once nothing more comes."""
        held, self._held = self._held, ""
        return held

    def _undecided(self, text: str) -> int:
        """Length of the longest end of `text` that a stop string begins with."""
        return max(
            (
                length
                for stop in self._stop_strings
                for length in range(1, min(len(stop), len(text)) + 1)
                if text.endswith(stop[:length])
            ),
            default=0,
        )
