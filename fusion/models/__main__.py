"""Fetch models into the cache:

python -m fusion.models [--list] [--cache FOLDER] [NAME ...]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from fusion.command_line import parse
from fusion.errors import ConfigurationError
from fusion.models import table
from fusion.models.lookup import fetch


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m fusion.models", description="Fetch models into the cache."
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="models; none: the default ones")
    parser.add_argument("--cache", type=Path, default=parse([]).cache_folder, help="cache folder")
    parser.add_argument("--list", action="store_true", help="list the models and end")
    options = parser.parse_args(arguments)
    if options.list:
        for model in table.MODELS:
            mark = "*" if model.default else " "
            size = sum(file.size for file in model.files) / 1e6
            print(f"{mark} {model.name:18} {model.kind:8} {size:4.0f} MB  {model.about}")
        print("* fetched by default")
        return 0
    try:
        for name in options.names or [model.name for model in table.MODELS if model.default]:
            print(fetch(name, options.cache.expanduser()))
    except ConfigurationError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
