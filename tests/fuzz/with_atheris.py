"""Lets atheris, which looks for inputs that reach new code, throw its bytes at one of the parsers.

`python -m tests.fuzz.with_atheris test_handshake -runs=10000`, where atheris is installed: it has
packages for some versions of Python only, and is no requirement of the tests.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["fusion", "language_models", "realtime", "whisper_live"]):
    from tests.fuzz import test_parsers


def main() -> None:
    """Fuzz the test that the command line names; the rest is libFuzzer's."""
    test = getattr(test_parsers, sys.argv.pop(1))
    atheris.Setup(sys.argv, test.hypothesis.fuzz_one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
