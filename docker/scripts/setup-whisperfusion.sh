#!/usr/bin/env bash
# Installs what the GPU image holds, in the one order that works, and says why. The Dockerfile runs
# its three steps in three layers: setup-whisperfusion.sh system | python | examples.
set -euo pipefail

docker="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
lock="$docker/requirements-gpu.lock"

tensorrt_llm_version=0.10.0
tensorrt_version=10.0.1
# The tag v0.10.0 of TensorRT-LLM: its examples hold the converters that match the wheel.
tensorrt_llm_commit=9bd15f1937f52658fb116f30d58fea786ce5d03b
examples="${TENSORRT_LLM_EXAMPLES:-/opt/tensorrt_llm/examples}"

# Needed while the program runs: ffmpeg and PortAudio; Open MPI, which TensorRT-LLM opens even for
# one GPU; Python's headers and the compiler of the base image, with which torch.compile makes its
# kernels. libav*-dev is for those who build PyAV on top of this image: here it is a wheel.
install_system_packages() {
    export DEBIAN_FRONTEND=noninteractive
    apt-get update
    apt-get install --yes --no-install-recommends \
        build-essential ca-certificates curl git \
        ffmpeg portaudio19-dev \
        libavcodec-dev libavdevice-dev libavfilter-dev libavformat-dev libavutil-dev \
        libswresample-dev libswscale-dev \
        libopenmpi-dev openmpi-bin \
        python3 python3-dev python3-pip
    rm -rf /var/lib/apt/lists/*
}

# pinned NAME: the package as the lock pins it, name==version.
pinned() {
    grep --max-count 1 --only-matching "^$1==[^ ]*" "$lock"
}

# Each step takes its versions and hashes from the lock, so the order decides nothing about
# versions any more. It puts first what is largest and fails most, and it is the order in which to
# install by hand when the lock is being renewed.
install_python_packages() {
    local rest
    rest="$(mktemp)"
    local install=(
        uv pip install --require-hashes --constraints "$lock"
        --build-constraints "$docker/requirements-build.txt"
        --only-binary :all: --no-binary docopt --no-binary encodec --no-binary mpi4py --no-binary openai-whisper
    )
    # 1. uv, into /root/.local/bin; and an environment, so that Ubuntu's packages stay out of it.
    export PATH="$HOME/.local/bin:$PATH"
    python3 -m pip install --user --no-cache-dir --require-hashes \
        --requirement "$docker/requirements-uv.txt"
    uv venv --allow-existing --python python3 "${VIRTUAL_ENV:?name the environment to install into}"
    # 2. torch, before anything that would be content with a newer one.
    "${install[@]}" "$(pinned torch)" "$(pinned torchaudio)"
    # 3. PyAV as a wheel: building it needs FFmpeg's headers of one version and an old Cython.
    "${install[@]}" "$(pinned av)"
    # 4. The rest, without faster-whisper. A package's hashes are the indented lines below it.
    awk '/^[^ ]/ { keep = !/^faster-whisper==/ } keep' "$lock" >"$rest"
    "${install[@]}" --requirements "$rest"
    # 5. TensorRT and TensorRT-LLM from NVIDIA. What they require is in the lock, where it is
    #    bounded: tensorrt_llm would take any cuda-python. tensorrt 10.0.1 itself is left out: it
    #    is empty but for its wish for any tensorrt-cu12, which is the package that has the module.
    #    PyPI has placeholders of the wheels, and tensorrt-cu12 alone as a source that calls pip by
    #    itself unless told not to.
    NVIDIA_TENSORRT_DISABLE_INTERNAL_PIP=1 uv pip install --no-deps --no-build-isolation \
        --index https://pypi.nvidia.com --index-strategy unsafe-best-match \
        --only-binary :all: --no-binary tensorrt-cu12 \
        "tensorrt-cu12==$tensorrt_version" "tensorrt-cu12-libs==$tensorrt_version" \
        "tensorrt-cu12-bindings==$tensorrt_version" "tensorrt_llm==$tensorrt_llm_version"
    # 6. faster-whisper last: all that it asks for is there, and it moves nothing.
    "${install[@]}" "$(pinned faster-whisper)"
}

# Only the converters of three models, from one commit whose id is the check of its content.
fetch_examples() {
    local folder
    folder="$(dirname "$examples")"
    git init --quiet "$folder"
    cd "$folder"
    git remote add origin https://github.com/NVIDIA/TensorRT-LLM.git
    git sparse-checkout set examples/whisper examples/phi examples/llama
    git fetch --quiet --depth 1 --filter blob:none origin "$tensorrt_llm_commit"
    GIT_LFS_SKIP_SMUDGE=1 git checkout --quiet FETCH_HEAD
    [[ "$(git rev-parse HEAD)" == "$tensorrt_llm_commit" ]] || {
        echo "ERROR: The examples of TensorRT-LLM did not arrive: build the image again." >&2
        exit 1
    }
    rm -rf .git
}

case "${1:-}" in
system) install_system_packages ;;
python) install_python_packages ;;
examples) fetch_examples ;;
*)
    echo "usage: setup-whisperfusion.sh system | python | examples" >&2
    exit 64
    ;;
esac
