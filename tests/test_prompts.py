"""The prompt formats, and where a reply is cut."""

from __future__ import annotations

import re
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from language_models.base import ChatMessage
from language_models.prompts import CHATML, PHI_2, PHI_3, PHI_FORMATS, StopStringFilter

CONVERSATION = (
    ChatMessage("system", "Be brief."),
    ChatMessage("user", "Hello"),
    ChatMessage("assistant", "Hi."),
    ChatMessage("user", "How are you?"),
)


def test_phi_2() -> None:
    assert PHI_2.render(CONVERSATION) == (
        "Be brief.\nInstruct: Hello\nOutput: Hi.\nInstruct: How are you?\nOutput:"
    )


def test_phi_3() -> None:
    assert PHI_3.render(CONVERSATION) == (
        "<|system|>\nBe brief.<|end|>\n<|user|>\nHello<|end|>\n<|assistant|>\nHi.<|end|>\n"
        "<|user|>\nHow are you?<|end|>\n<|assistant|>"
    )


def test_chatml() -> None:
    assert CHATML.render(CONVERSATION) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHello<|im_end|>\n"
        "<|im_start|>assistant\nHi.<|im_end|>\n<|im_start|>user\nHow are you?<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_every_phi_has_its_format_and_its_end() -> None:
    assert PHI_FORMATS["phi-2"].stop_ids == (50256,)
    assert PHI_FORMATS["Phi-3-mini-4k-instruct"].stop_ids[0] == 32007
    assert PHI_FORMATS["Phi-3-mini-128k-instruct"].stop_ids[0] == 32007
    assert CHATML.stop_ids[0] == 32000


def test_a_reply_ends_where_a_model_begins_to_speak_in_anothers_name() -> None:
    assert {32001, 32010} < set(PHI_3.stop_ids)  # <|assistant|>, <|user|>
    assert 32001 in CHATML.stop_ids  # <|im_start|>


@given(st.lists(st.sampled_from(["Instruct:", "Output:", "Inst", "ruct:", "Out", "a", " "])))
def test_nobody_can_speak_as_the_format(parts: list[str]) -> None:
    """Whatever a person says, the prompt holds as many reserved words as for a plain one."""
    reserved = re.compile(PHI_2.reserved)
    plain = PHI_2.render((ChatMessage("user", "x"),))
    prompt = PHI_2.render((ChatMessage("user", "".join(parts)),))
    assert reserved.findall(prompt) == reserved.findall(plain)


def test_what_is_said_may_look_like_a_place_for_text() -> None:
    assert "<|user|>\n{} and {}<|end|>" in PHI_3.render((ChatMessage("user", "{} and {}"),))


STOPS = ("\nInstruct:", "Instruct:")


@given(st.text(alphabet="Instruc: \nab", max_size=60), st.data())
def test_a_reply_is_cut_at_the_same_place_however_it_arrives(
    text: str, data: st.DataObject
) -> None:
    marks = sorted(data.draw(st.sets(st.integers(0, len(text)), max_size=8)) | {0, len(text)})
    cut = StopStringFilter(STOPS)
    out = ""
    for start, end in pairwise(marks):
        out += cut.push(text[start:end])
        if cut.complete:
            break
    else:
        out += cut.finish()
    assert out == re.split(r"\n?Instruct:", text, maxsplit=1)[0]


def test_certain_text_is_not_held_back() -> None:
    cut = StopStringFilter(STOPS)
    assert cut.push("It is In") == "It is "
    assert cut.push("dia.") == "India."
    assert cut.finish() == ""
