"""What is thrown at the parsers: valid messages with something wrong, and anything else."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

INPUTS = int(os.environ.get("FUZZ_INPUTS", "40"))
"""How many each test takes; `make fuzz` takes 2,000, which is 30,000 together."""

TALLY: dict[str, Counter[str]] = {}
"""What became of the inputs of each test: how many were taken, or refused with which error."""

T = TypeVar("T")

fuzzing = settings(
    max_examples=INPUTS,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.generate,),
)

TEXTS = st.one_of(
    st.text(max_size=40),
    st.text(st.characters(), max_size=40),  # with halves of characters
    st.sampled_from(
        (
            "",
            "\0",
            "\ud800",
            "\r\n",
            "٣",
            "e\u0301",
            "🙂",
            "NaN",
            "<|im_end|>",
            "../../x",
            "x" * 5000,
        )
    ),
)

NUMBERS = st.one_of(
    st.integers(),
    st.floats(),
    st.sampled_from((0, -1, 1 << 31, 1 << 63, 10**400, 1e308, float("nan"), float("-inf"))),
)

VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=8,
)

_NESTED = ("[" * 3000, '{"a":' * 3000, "[" * 3000 + "]" * 3000, "1" * 6000)


@st.composite
def broken(draw: st.DrawFn, value: Any) -> Any:
    """A JSON value with something in it that is another."""
    if not isinstance(value, dict | list) or not value or draw(st.integers(0, 3)) == 0:
        return draw(VALUES)
    if isinstance(value, list):
        index = draw(st.integers(0, len(value) - 1))
        return [*value[:index], draw(broken(value[index])), *value[index + 1 :]]
    key = draw(st.sampled_from(sorted(value)))
    if draw(st.integers(0, 4)) == 0:
        return {name: each for name, each in value.items() if name != key}
    return {
        **value,
        key: draw(broken(value[key])),
        **draw(st.dictionaries(TEXTS, VALUES, max_size=1)),
    }


ODD: tuple[Any, ...] = (None, [], [[]], {}, {"a": {}}, "", "\ud800", "x" * 5000, -1, 10**400, True)


def with_each_part_odd(value: Any) -> Iterator[Any]:
    """A JSON value with each of its parts replaced by each of what it is not meant to be."""
    yield from ODD
    if isinstance(value, dict):
        for key, part in value.items():
            yield {name: each for name, each in value.items() if name != key}
            yield from ({**value, key: odd} for odd in with_each_part_odd(part))
    elif isinstance(value, list):
        for index, part in enumerate(value):
            for odd in with_each_part_odd(part):
                yield [*value[:index], odd, *value[index + 1 :]]


def json_like(*examples: dict[str, Any]) -> st.SearchStrategy[str]:
    """Texts near to these JSON objects."""

    @st.composite
    def text(draw: st.DrawFn) -> str:
        value: Any = draw(st.sampled_from(examples))
        for _ in range(draw(st.integers(0, 3))):
            value = draw(broken(value))
        written = json.dumps(value, ensure_ascii=draw(st.booleans()))
        if draw(st.integers(0, 5)) == 0:
            at = draw(st.integers(0, len(written)))
            written = written[:at] + draw(TEXTS) + written[at + draw(st.integers(0, 9)) :]
        return written

    return st.one_of(text(), text(), text(), TEXTS, st.sampled_from(_NESTED))


def attempt(
    name: str, errors: type[Exception] | tuple[type[Exception], ...], do: Callable[[], T]
) -> T | None:
    """Do it, and count what became of it; only these errors are expected."""
    tally = TALLY.setdefault(name, Counter())
    try:
        result = do()
    except errors as error:
        tally[type(error).__name__] += 1
        return None
    tally["taken"] += 1
    return result
