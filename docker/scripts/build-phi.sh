#!/usr/bin/env bash
# Builds the TensorRT-LLM 0.10.0 engine of a Phi model: build-phi.sh MODEL, or MODEL from the
# environment. Does nothing when it is there for this GPU, version and these options.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

model="${1:-${MODEL:-Phi-3-mini-4k-instruct}}"

# Revisions of June 2024 or before: the ones that 0.10.0 and transformers 4.40.2 were made for.
# Phi-3 brings its own Python code, which the conversion runs, so a pin is also a matter of trust.
# Memory is for the weights in float16, int8 and int4, disk for three times those of float16;
# estimated, not measured.
case "$model" in
Phi-3-mini-4k-instruct)
    revision=ff07dc01615f8113924aed013115ab2abd32115b
    gpu_gib="$(by_quantization 12 10 8)" disk_gib=26
    ;;
Phi-3-mini-128k-instruct)
    revision=bb5bf1e4001277a606e11debca0ef80323e5f824
    gpu_gib="$(by_quantization 12 10 8)" disk_gib=26
    ;;
phi-2)
    revision=ef382358ec9e382308935a992d908de099b64c23
    gpu_gib="$(by_quantization 9 7 6)" disk_gib=20
    ;;
*)
    fail "MODEL is $model, but build-phi.sh builds Phi-3-mini-4k-instruct," \
        "Phi-3-mini-128k-instruct and phi-2."
    ;;
esac

main() {
    local folder="$models/$model" stamp
    refuse_merge_markers
    choose_gpu
    choose_engine_options
    take_build_lock
    stamp="$(engine_stamp "microsoft/$model $revision" "${engine_options[@]}")"
    if is_built "$folder" "$stamp"; then
        say "$model is built for this GPU: $folder"
        return
    fi
    need_gpu_memory "$gpu_gib" "$model"
    need_disk "$disk_gib" "$model"
    start_build "$folder"
    say "Step 1 of 3: fetching microsoft/$model"
    hub_download "microsoft/$model" "$revision"
    build_language_model "$folder" "$stamp" \
        "$examples/phi/convert_checkpoint.py" --model_type "$model"
}

main
