# What the scripts that build engines share. Sourced by them, never run.
# shellcheck shell=bash

scratch="${SCRATCH_SPACE:-/root/scratch-space}"
models="$scratch/models"
project="${WHISPERFUSION_HOME:-/root/WhisperFusion}"
# shellcheck disable=SC2034 # for the scripts that source this one
examples="${TENSORRT_LLM_EXAMPLES:-/opt/tensorrt_llm/examples}"

# TensorRT's plugins print to their own log; these are the two levels that people ask for.
log_level=info
if [[ "${VERBOSE:-false}" == true ]]; then
    log_level=verbose
    set -x
fi

# sysexits.h EX_CONFIG, as main.py ends: starting again will not mend it.
EXIT_CONFIGURATION=78

say() {
    printf '%s\n' "$*"
}

fail() {
    printf 'ERROR: %s\n' "$*" >&2
    exit "$EXIT_CONFIGURATION"
}

# A merge that was committed half done breaks the program only when the file is reached.
refuse_merge_markers() {
    local marked
    marked="$(grep -rlE '^(<{7}|>{7}) ' --include='*.py' --include='*.sh' "$project" || true)"
    [[ -z "$marked" ]] || fail "There are merge markers in ${marked//$'\n'/, }:" \
        "finish the merge and build the image again."
}

# run_command COMMAND... : `docker run IMAGE nvidia-smi` and the like, in place of the server.
# Without a GPU's driver its library is CUDA's stub: with it tensorrt_llm can at least be imported.
run_command() {
    command -v "$1" >/dev/null ||
        fail "There is no command \`$1\` in this image: give the server flags, or a command that is there."
    mkdir -p "$models" 2>/dev/null || true # also in a folder that was just mounted
    if ! ldconfig -p | grep --quiet --fixed-strings libcuda.so.1; then
        export LD_LIBRARY_PATH="${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}/usr/local/cuda/lib64/stubs"
    fi
    exec "$@"
}

# Chooses the GPU and sets gpu_capability and gpu_free (MiB). An engine works on the compute
# capability that it was built on alone, so CUDA_ARCH picks among different GPUs of one machine.
choose_gpu() {
    local wanted="${CUDA_ARCH:-}" index capability free name gpus
    gpus="$(nvidia-smi ${CUDA_VISIBLE_DEVICES:+--id="$CUDA_VISIBLE_DEVICES"} \
        --query-gpu=index,compute_cap,memory.free,name --format=csv,noheader,nounits \
        2>/dev/null)" ||
        fail "No NVIDIA GPU is visible here: install the NVIDIA driver and the NVIDIA Container" \
            "Toolkit, and start the container with --gpus all."
    wanted="${wanted%-real}"
    [[ "$wanted" =~ ^[0-9]+$ ]] && wanted="${wanted%?}.${wanted: -1}"
    while IFS=, read -r index capability free name; do
        capability="${capability// /}"
        [[ -z "$wanted" || "$capability" == "$wanted" ]] || continue
        gpu_capability="$capability"
        gpu_free="${free// /}"
        # nvidia-smi counts by bus, CUDA by speed if not told otherwise.
        export CUDA_DEVICE_ORDER=PCI_BUS_ID CUDA_VISIBLE_DEVICES="$index"
        refuse_unknown_gpu "${name# }"
        return
    done <<<"$gpus"
    fail "CUDA_ARCH is ${CUDA_ARCH}, but no GPU here has compute capability $wanted:" \
        "leave CUDA_ARCH empty to take the first one."
}

# TensorRT-LLM 0.10.0 knows Volta (7.0) to Hopper (9.0).
refuse_unknown_gpu() {
    local major="${gpu_capability%%.*}"
    ((major < 10)) || fail "TensorRT-LLM 0.10.0 does not know the $1 (compute capability" \
        "$gpu_capability): run \`docker compose --profile modern up\` instead."
    ((major >= 7)) || fail "The $1 (compute capability $gpu_capability) is too old for" \
        "TensorRT-LLM 0.10.0, which needs 7.0: run \`docker compose --profile cpu up\` instead."
}

# whisper_folder MODEL: the name of the folder of its engines.
whisper_folder() {
    printf 'whisper_%s\n' "${1//[.-]/_}"
}

# need_gpu_memory GIB WHAT
need_gpu_memory() {
    ((gpu_free >= $1 * 1024)) || fail "Building $2 needs about $1 GiB of free GPU memory and" \
        "$((gpu_free / 1024)) GiB are free: stop what else uses the GPU, or choose a smaller MODEL."
}

# need_disk GIB WHAT
need_disk() {
    local free
    free="$(df --output=avail --block-size=1G "$models" | tail -n 1)"
    ((free >= $1)) || fail "Building $2 needs about $1 GiB of disk under $models and" \
        "$((free)) GiB are free: make room there."
}

# Two containers that share a scratch space must not build the same engine at once.
take_build_lock() {
    if ! mkdir -p "$models" 2>/dev/null || [[ ! -w "$models" ]]; then
        fail "Nothing can be written to $models: make the folder that is mounted at $scratch" \
            "writable for the container (docker/README.md says how under SELinux)."
    fi
    exec 9>"$models/.lock"
    flock --nonblock 9 || {
        say "Another build is at work in $models; waiting for it."
        flock 9
    }
}

tensorrt_llm_version() {
    python3 -c 'from importlib.metadata import version; print(version("tensorrt_llm"))' \
        2>/dev/null ||
        fail "The Python package tensorrt_llm is not installed here: build engines in the" \
            "WhisperFusion GPU image."
}

# engine_stamp WHAT OPTION... : all that decides what an engine is, one fact a line. The file is
# written last and its folder moved into place whole, so that a half-built engine never has one.
engine_stamp() {
    local version
    version="$(tensorrt_llm_version)" || exit
    printf 'model %s\ntensorrt_llm %s\ncompute capability %s\noptions %s\n' \
        "$1" "$version" "$gpu_capability" "${*:2}"
}

# is_built FOLDER STAMP
is_built() {
    [[ -f "$1/built.txt" && "$(<"$1/built.txt")" == "$2" ]]
}

# start_build FOLDER: makes an empty folder beside it to build in ($work), and one that keeps the
# weights until the build is through ($weights): a download that broke off goes on where it was.
start_build() {
    work="$1.building"
    weights="$scratch/downloads/$(basename "$1")"
    rm -rf "$work"
    mkdir -p "$work" "$weights"
}

# build_failed WHAT: what the outside programs wrote is on the screen already.
build_failed() {
    fail "$1 failed: read the reason above and, if it is memory (\`Killed\`, \`out of memory\`)," \
        "stop what else uses this machine or its GPU."
}

# finish_build FOLDER STAMP FILE... : the build counts only if it left these files.
finish_build() {
    local folder="$1" stamp="$2" file
    shift 2
    for file in "$@"; do
        [[ -s "$work/engine/$file" ]] || fail "The build of $folder ended without $file:" \
            "read the messages above, or build again with VERBOSE=true."
    done
    printf '%s\n' "$stamp" >"$work/engine/built.txt"
    rm -rf "$folder"
    mv "$work/engine" "$folder"
    rm -rf "$work" "$weights"
}

# hub_download REPOSITORY REVISION: into $weights. Formats other than safetensors are left out.
hub_download() {
    local command=hf
    command -v hf >/dev/null || command=huggingface-cli
    "$command" download "$1" --revision "$2" --local-dir "$weights" --exclude '*.bin' ||
        fail "The Hugging Face hub does not give $1: connect this machine to the network, name a" \
            "proxy in HTTPS_PROXY, or set HF_TOKEN if it asks for a login."
}

# The limits fit the settings: 923 prompt tokens and 100 new ones by default, eight sessions at once.
engine_options=(
    --gemm_plugin float16
    --max_batch_size 8
    --max_input_len 1024
    --max_output_len 512
    --max_num_tokens 8192
)

# choose_engine_options: adds what depends on the GPU and on QUANTIZATION. From Ampere on the prompt
# can be read from a cache that requests share, in blocks of 32 tokens.
choose_engine_options() {
    ((${gpu_capability%%.*} < 8)) ||
        engine_options+=(--use_paged_context_fmha enable --tokens_per_block 32)
    case "${QUANTIZATION:-none}" in
    none) ;;
    int8 | int4) engine_options+=(--weight_only_precision "$QUANTIZATION") ;;
    *) fail "QUANTIZATION is $QUANTIZATION: choose none, int8 or int4." ;;
    esac
}

# by_quantization NONE INT8 INT4: the one that QUANTIZATION names.
by_quantization() {
    case "${QUANTIZATION:-none}" in
    int8) echo "$2" ;;
    int4) echo "$3" ;;
    *) echo "$1" ;;
    esac
}

# build_language_model FOLDER STAMP CONVERTER OPTION... : makes an engine of what is in $weights.
build_language_model() {
    local folder="$1" stamp="$2"
    shift 2
    say "Step 2 of 3: converting the weights"
    python3 "$@" --model_dir "$weights" --dtype float16 --output_dir "$work/checkpoint" ||
        build_failed "Converting the weights for $folder"
    say "Step 3 of 3: building the engine (some minutes)"
    # trtllm-build writes its timing cache into the folder that it runs in.
    (cd "$work" && trtllm-build --checkpoint_dir "$work/checkpoint" --output_dir "$work/engine" \
        "${engine_options[@]}" --log_level "$log_level") || build_failed "Building $folder"
    keep_tokenizer
    finish_build "$folder" "$stamp" config.json rank0.engine
    say "Built $folder"
}

# The tokenizer's files, without the weights and without code from the hub.
keep_tokenizer() {
    local file
    mkdir -p "$work/engine/tokenizer"
    for file in tokenizer.json tokenizer.model tokenizer_config.json special_tokens_map.json \
        added_tokens.json vocab.json merges.txt; do
        if [[ -f "$weights/$file" ]]; then
            cp "$weights/$file" "$work/engine/tokenizer/"
        fi
    done
}
