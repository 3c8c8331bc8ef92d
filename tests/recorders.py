"""Stand-ins for the commands that the Docker scripts call, which record how they were called.

Each is the same small program under another name. It appends its arguments to a log and does the
least that the scripts then look for: files in the right places, a version, a GPU's data.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parent.parent / "docker" / "scripts"

COMMIT = "9bd15f1937f52658fb116f30d58fea786ce5d03b"
"""TensorRT-LLM 0.10.0."""

CONFIGURATION = 78
"""What a script ends with that has said what is wrong: starting it again will not mend it."""

COMMANDS = ("nvidia-smi", "df", "python3", "hf", "curl", "sha256sum", "trtllm-build")

RECORDER = """#!{python}
import json, os, sys
from pathlib import Path

name, arguments = Path(sys.argv[0]).name, sys.argv[1:]
root = Path({root!r})
world = json.loads((root / "world.json").read_text())


def value(option):
    return Path(arguments[arguments.index(option) + 1])


def write(folder, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for each in names:
        (folder / each).write_text("made by the recorder")


if not (name == "python3" and arguments[0] == "-c") and name not in ("nvidia-smi", "df"):
    call = {{"command": [name, *arguments], "cwd": os.getcwd(),
            "gpu": os.environ.get("CUDA_VISIBLE_DEVICES")}}
    with (root / "calls").open("a") as log:
        log.write(json.dumps(call) + "\\n")

if any(part in world["broken"] for part in [name, *(Path(a).name for a in arguments[:1])]):
    sys.exit("recorder: broken on purpose")

if name == "nvidia-smi":
    print("\\n".join(world["gpus"]))
    sys.exit(0 if world["gpus"] else 9)
elif name == "df":
    print("Avail", world["disk"], sep="\\n")
elif name == "curl":
    write(value("--output").parent, value("--output").name)
elif name == "sha256sum":
    sys.exit(0 if Path(sys.stdin.read().split()[1]).exists() else 1)
elif name in ("hf", "huggingface-cli"):
    write(value("--local-dir"), "model.safetensors", "tokenizer.json", "tokenizer_config.json",
          "modeling_phi3.py")
elif name == "trtllm-build":
    write(value("--output_dir"), *world["engine"])
elif name == "git" and arguments[0] == "rev-parse":
    print(world["commit"])
elif arguments[0] == "-c":
    if "tensorrt_llm" in arguments[1] and not world["tensorrt_llm"]:
        sys.exit("no such package")
    if any(f"import {{module}};" in arguments[1] for module in world["unimportable"]):
        sys.exit("no such module")
    print(world["tensorrt_llm"])
elif arguments[0] == "build.py":
    write(value("--output_dir"), "encoder_config.json", "decoder_config.json",
          "whisper_encoder_float16_tp1_rank0.engine", "whisper_decoder_float16_tp1_rank0.engine")
"""


@dataclass(frozen=True)
class Call:
    command: list[str]
    cwd: str
    gpu: str | None


class Host:
    """A machine made of recorders: change its world, run a script, look at the calls."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.scratch = root / "scratch-space"
        self.models = self.scratch / "models"
        self.project = root / "project"
        self.examples = root / "examples"
        self.world: dict[str, object] = {
            "gpus": ["0, 8.9, 23000, NVIDIA GeForce RTX 4090"],
            "disk": 200,
            "tensorrt_llm": "0.10.0",
            "engine": ["config.json", "rank0.engine"],
            "unimportable": [],
            "commit": COMMIT,
            "broken": [],
        }
        (root / "bin").mkdir()
        self.project.mkdir()
        (self.examples / "whisper").mkdir(parents=True)
        for command in COMMANDS:
            self.add(command)

    def add(self, command: str) -> None:
        path = self.root / "bin" / command
        path.write_text(RECORDER.format(python=sys.executable, root=str(self.root)))
        path.chmod(0o755)

    def remove(self, command: str) -> None:
        (self.root / "bin" / command).unlink()

    def run(
        self, script: str, *arguments: str, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        (self.root / "world.json").write_text(json.dumps(self.world))
        (self.root / "calls").write_text("")
        return subprocess.run(
            [SCRIPTS / script, *arguments],
            env={
                "PATH": f"{self.root / 'bin'}:/usr/bin:/bin",
                "SCRATCH_SPACE": str(self.scratch),
                "WHISPERFUSION_HOME": str(self.project),
                "TENSORRT_LLM_EXAMPLES": str(self.examples),
                "HOME": str(self.root),
                **environment,
            },
            cwd=self.root,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    @property
    def calls(self) -> list[Call]:
        lines = (self.root / "calls").read_text().splitlines()
        return [Call(**json.loads(line)) for line in lines]

    @property
    def programs(self) -> list[str]:
        """What was called, by its bare name: a Python program by the name of its file."""
        return [
            Path(call.command[1 if call.command[0] == "python3" else 0]).name for call in self.calls
        ]
