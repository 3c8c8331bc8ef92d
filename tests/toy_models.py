"""Models of a megabyte, as the table has real ones, and the wheels that they come in."""

from __future__ import annotations

import hashlib
import os
import zipfile
from pathlib import Path

from fusion.models import sources
from fusion.models.sources import LLM, WHISPER, Hub, Model, ModelFile, Package

CONTENT = {"model.bin": bytes(range(256)) * 4096, "config.json": b'{"heads": 6}'}
HALF = len(CONTENT["model.bin"]) // 2


def _file(name: str, *, parts: tuple[str, ...] = ()) -> ModelFile:
    content = CONTENT[name]
    return ModelFile(name, len(content), hashlib.sha256(content).hexdigest(), parts)


TOY = Model(
    name="toy",
    kind=WHISPER,
    about="a toy",
    files=(_file("model.bin"), _file("config.json")),
    packages=(Package("toy-model==1.0", "toy_model/data/", 1000),),
    hub=Hub("somebody/toy", "sub/", "v1"),
)
SPLIT = Model(
    name="split",
    kind=LLM,
    about="a toy in two packages",
    files=(_file("model.bin", parts=("part1", "part2")),),
    packages=(Package("toy-a==1.0", "toy_a/", 1000), Package("toy-b==1.0", "toy_b/", 1000)),
    hub=Hub("somebody/split"),
)


def make_wheel(folder: Path, project: str, members: dict[str, bytes]) -> None:
    """A wheel that pip takes. It asks for a Python of the future, since only its data is wanted."""
    info = f"{project}-1.0.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {project}\nVersion: 1.0\nRequires-Python: >=3.99\n"
    about = {
        f"{info}/METADATA": metadata.encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": b"",
        f"{project}/__init__.py": b"raise SystemExit('the code of a model package was run')",
    }
    with zipfile.ZipFile(folder / f"{project}-1.0-py3-none-any.whl", "w") as archive:
        for name, content in (about | members).items():
            archive.writestr(name, content)


def take_wheel(package: Package, folder: Path, meter: sources.Meter, before: int) -> Path:
    """What pip does, at once: pip itself takes seconds, and has tests of its own."""
    name = package.requirement.partition("==")[0].replace("-", "_")
    wheel = Path(os.environ["PIP_FIND_LINKS"], f"{name}-1.0-py3-none-any.whl")
    if not wheel.exists():
        raise sources.SourceError(f"no {wheel.name}")
    return wheel


def publish_toy(registry: Path) -> None:
    """Let a folder of wheels hold TOY."""
    data = {f"toy_model/data/{name}": content for name, content in CONTENT.items()}
    make_wheel(registry, "toy_model", data | {"toy_model/other.bin": b"not wanted"})
