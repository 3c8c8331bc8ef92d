"""What one setting is: a field with its meaning and what it may be."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import field
from typing import Any

AUTO = "auto"


def setting(
    default: Any,
    group: str,
    help: str,
    *,
    choices: Sequence[str] | None = None,
    environment: str | None = None,
    old: str | None = None,
    least: float | None = None,
    most: float = math.inf,
) -> Any:
    """Describe a field. `environment` is the original's name of its variable, `old` another name
    that it answers to.

    A number is `least` or more and at most `most`.
    """
    return field(
        default=default,
        metadata={
            "group": group,
            "help": help,
            "choices": choices,
            "environment": environment,
            "old": old,
            "range": None if least is None else (least, most),
        },
    )
