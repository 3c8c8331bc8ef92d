#!/usr/bin/env bash
# Entry point of the GPU image: builds the engines that are missing, then becomes main.py.
# Flags go to main.py; they come last and so beat what is set here. A command is run as it is.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

if (($#)) && [[ "$1" != -* ]]; then
    run_command "$@"
fi

model="${MODEL:-Phi-3-mini-4k-instruct}"

"$(dirname "${BASH_SOURCE[0]}")/build-models.sh"
choose_gpu # the GPU that the engines are for

arguments=(--stt_backend tensorrt_llm --whisper_tensorrt_path "$models/$(whisper_folder "${WHISPER_MODEL:-small.en}")")
if [[ "$model" == mistral ]]; then
    arguments+=(
        --mistral
        --mistral_tensorrt_path "$models/mistral"
        --mistral_tokenizer_path "$models/mistral/tokenizer"
    )
else
    arguments+=(
        --phi
        --phi_tensorrt_path "$models/$model"
        --phi_tokenizer_path "$models/$model/tokenizer"
        --phi_model_type "$model"
    )
fi
if [[ "${VERBOSE:-false}" == true ]]; then
    arguments+=(--log_level debug)
fi

cd "$project"
exec python3 main.py "${arguments[@]}" "$@"
