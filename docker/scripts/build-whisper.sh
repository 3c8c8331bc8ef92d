#!/usr/bin/env bash
# Builds the TensorRT-LLM 0.10.0 engines of Whisper small.en: one for its encoder, one for its
# decoder. Does nothing when they are there for this GPU, version and these options.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

model=small.en
folder="$models/whisper_small_en"
# OpenAI's own address of the weights; its last folder is their SHA-256.
sha256=f953ad0fd29cacd07d5a9eda5624af0f6bcf2258be67c92b79389873d91e0872
url="https://openaipublic.azureedge.net/main/whisper/models/$sha256/$model.pt"

# --max_batch_size: windows of so many clients share one call.
# --max_input_len: 14 by default, which holds the task's tokens alone; the rest is for the words
# said before. With the output it must stay within Whisper's 448 tokens.
# --max_beam_width: decoding is greedy.
options=(
    --max_batch_size 8
    --max_input_len 128
    --max_output_len 200
    --max_beam_width 1
    --use_gpt_attention_plugin
    --use_gemm_plugin
    --use_bert_attention_plugin
    --enable_context_fmha
)

weights_are_whole() {
    printf '%s  %s\n' "$sha256" "$weights/$model.pt" | sha256sum --check --status 2>/dev/null
}

fetch_weights() {
    say "Step 1 of 2: fetching Whisper $model (484 MB)"
    if weights_are_whole; then
        return
    fi
    curl --fail --location --retry 3 --continue-at - --output "$weights/$model.pt" "$url" ||
        fail "The Whisper weights could not be fetched from $url:" \
            "connect this machine to the network, or name a proxy in HTTPS_PROXY."
    weights_are_whole || {
        rm "$weights/$model.pt"
        fail "The Whisper weights from $url arrived damaged: run this script again."
    }
}

main() {
    local stamp
    refuse_merge_markers
    choose_gpu
    take_build_lock
    stamp="$(engine_stamp "whisper-$model $sha256" "${options[@]}")"
    if is_built "$folder" "$stamp"; then
        say "Whisper $model is built for this GPU: $folder"
        return
    fi
    need_gpu_memory 4 "Whisper $model"
    need_disk 3 "Whisper $model"
    start_build "$folder"
    fetch_weights
    say "Step 2 of 2: building the engines (some minutes)"
    (cd "$examples/whisper" && python3 build.py --model_dir "$weights" --model_name "$model" \
        --output_dir "$work/engine" "${options[@]}" --log_level "$log_level") ||
        build_failed "Building $folder"
    finish_build "$folder" "$stamp" encoder_config.json decoder_config.json \
        whisper_encoder_float16_tp1_rank0.engine whisper_decoder_float16_tp1_rank0.engine
    say "Built $folder"
}

main
