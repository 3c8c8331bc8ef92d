#!/usr/bin/env bash
# Builds the TensorRT-LLM 0.10.0 engine of OpenHermes 2.5, a Mistral 7B. Does nothing when it is
# there for this GPU, version and these options.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

repository=teknium/OpenHermes-2.5-Mistral-7B
revision=24c0bea14d53e6f67f1fbe2eca5bfe7cae389b33

main() {
    local folder="$models/mistral" stamp
    refuse_merge_markers
    choose_gpu
    choose_engine_options
    take_build_lock
    stamp="$(engine_stamp "$repository $revision" "${engine_options[@]}")"
    if is_built "$folder" "$stamp"; then
        say "Mistral is built for this GPU: $folder"
        return
    fi
    # The weights in float16, int8 and int4, and three times those of float16; estimated.
    need_gpu_memory "$(by_quantization 20 12 9)" Mistral
    need_disk 48 Mistral
    start_build "$folder"
    say "Step 1 of 3: fetching $repository"
    hub_download "$repository" "$revision"
    # Mistral is a Llama to TensorRT-LLM: same layers, same converter.
    build_language_model "$folder" "$stamp" "$examples/llama/convert_checkpoint.py"
}

main
