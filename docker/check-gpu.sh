#!/usr/bin/env bash
# The check list for a GPU host, ten minutes once image and engines are built: prints pass or FAIL
# for each line, and ends with status 0 only if every line passed. Run it in the project's folder
# while WhisperFusion is not running; MODEL is as for docker compose up. docs/gpu.md explains each
# line. What each step printed is kept in check-gpu.log.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit

MODEL="${MODEL:-Phi-3-mini-4k-instruct}"
export MODEL
models=/root/scratch-space/models
log="${CHECK_LOG:-check-gpu.log}"
server=http://127.0.0.1:6006
startup_seconds="${CHECK_STARTUP_SECONDS:-900}"

failures=0
blocked=

# check WHAT COMMAND... : one line. What comes last from the command is the reason or the facts.
check() {
    local what="$1" output
    shift
    if [[ -n "$blocked" ]]; then
        printf 'not run  %s\n' "$what"
        return 1
    fi
    printf '== %s: %s\n' "$what" "$*" >>"$log"
    if output="$("$@" 2>&1)"; then
        printf '%s\n' "$output" >>"$log"
        printf 'pass     %s: %s\n' "$what" "$(last_line "$output")"
        return 0
    fi
    printf '%s\n' "$output" >>"$log"
    printf 'FAIL     %s: %s\n' "$what" "$(last_line "$output")"
    failures=$((failures + 1))
    return 1
}

# required WHAT COMMAND... : the lines after it make no sense if this one fails.
required() {
    check "$@" || blocked=yes
}

last_line() {
    local line
    line="$(grep -v '^[[:space:]]*$' <<<"$1" | tail -n 1)"
    printf '%s' "${line:-no output}"
}

# In a container of the server's image, with another program.
in_image() {
    docker compose run --rm --no-deps --no-TTY --entrypoint "$1" whisperfusion "${@:2}"
}

nothing_runs() {
    local running
    running="$(docker compose ps --quiet --status running whisperfusion)" || return
    if [[ -n "$running" ]]; then
        echo "it is running and holds GPU memory: docker compose stop whisperfusion"
        return 1
    fi
    echo "the GPU is free for these checks"
}

gpu_is_known() {
    local found capability
    found="$(nvidia-smi --query-gpu=compute_cap,driver_version,name --format=csv,noheader)" || {
        echo "nvidia-smi does not answer: install the NVIDIA driver"
        return 1
    }
    found="${found%%$'\n'*}"
    capability="${found%%,*}"
    echo "$found"
    if ((${capability%%.*} < 7 || ${capability%%.*} >= 10)); then
        echo "$found: not for TensorRT-LLM 0.10.0; docs/gpu.md names the path for it"
        return 1
    fi
}

model_flags() {
    if [[ "$MODEL" == mistral ]]; then
        printf '%s\n' --mistral --mistral_tensorrt_path "$models/mistral" \
            --mistral_tokenizer_path "$models/mistral/tokenizer"
    else
        printf '%s\n' --phi --phi_tensorrt_path "$models/$MODEL" \
            --phi_tokenizer_path "$models/$MODEL/tokenizer" --phi_model_type "$MODEL"
    fi
}

check_model() {
    local flags
    mapfile -t flags < <(model_flags)
    in_image python3 -m docker.check_models "$1" --stt_backend tensorrt_llm \
        --whisper_tensorrt_path "$models/whisper_small_en" --tts_backend whisperspeech \
        "${flags[@]}"
}

server_is_ready() {
    local begun=$SECONDS
    docker compose up --detach whisperfusion || return
    until curl --fail --silent --show-error --noproxy '*' --max-time 5 "$server/healthz"; do
        if ((SECONDS - begun > startup_seconds)); then
            echo "not ready after $startup_seconds s: docker compose logs whisperfusion"
            return 1
        fi
        sleep 2
    done
    echo "ready after $((SECONDS - begun)) s"
}

# Twice, as the first turn of a server may still compile something.
conversation() {
    docker compose exec --no-TTY whisperfusion python3 -m whisper_live.client.demo &&
        docker compose exec --no-TTY whisperfusion python3 -m whisper_live.client.demo
}

memory_is_left() {
    local used total
    IFS=', ' read -r used total < <(nvidia-smi --query-gpu=memory.used,memory.total \
        --format=csv,noheader,nounits)
    echo "$used of $total MiB are in use with all three models loaded"
    ((used * 100 < total * 95))
}

stop_server() {
    docker compose stop whisperfusion >>"$log" 2>&1
}

: >"$log"
required "Docker answers" docker compose version
required "WhisperFusion is not running" nothing_runs
required "TensorRT-LLM 0.10.0 knows this GPU" gpu_is_known
required "containers see the GPU" in_image nvidia-smi --query-gpu=name --format=csv,noheader
required "every library of the image imports" in_image docker/scripts/check-image.sh
required "the engines are built" in_image docker/scripts/build-models.sh
check "the voice speaks" check_model voice
check "Whisper understands the voice, alone and in a batch" check_model transcription
check "$MODEL answers, together with others and after a cancel" check_model language_model
trap stop_server EXIT
required "the server is ready" server_is_ready
check "a spoken question is answered aloud, twice" conversation
check "the three models leave GPU memory free" memory_is_left

if ((failures > 0)) || [[ -n "$blocked" ]]; then
    echo "Something failed; $log holds what each step printed."
    exit 1
fi
echo "All lines passed."
