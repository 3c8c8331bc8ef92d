"""The prompt formats of models that come without a chat template of their own.

A TensorRT-LLM engine holds weights alone, so the text around a conversation, and what ends a reply,
is written here. The token ids are those of the models' published tokenizers.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from language_models.base import ChatMessage

NOTHING = r"(?!)"
"""A regular expression that fits nowhere."""


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

    def render(self, messages: Sequence[ChatMessage]) -> str:
        """The prompt for these messages, up to where the reply begins."""
        parts = (
            self.parts[message.role].replace("{}", self.clean(message.content), 1)
            for message in messages
        )
        return "".join(parts) + self.reply

    def clean(self, text: str) -> str:
        """`text` without what would read as part of the format.

        Repeated, as taking out one word can put together another: `InstOutput:ruct:`.
        """
        while (cleaned := re.sub(self.reserved, "", text)) != text:
            text = cleaned
        return text.strip()


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
