#!/usr/bin/env bash
# Builds the TensorRT-LLM 0.10.0 engines of a Whisper: build-whisper.sh MODEL, or WHISPER_MODEL from
# the environment; one engine for its encoder, one for its decoder. Does nothing when they are there
# for this GPU, version and these options.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

model="${1:-${WHISPER_MODEL:-small.en}}"
folder="$models/$(whisper_folder "$model")"

# The SHA-256 sums are OpenAI's, from whisper/__init__.py of openai-whisper 20250625: the last folder
# of its address of the weights. Distil-Whisper is on the hub. Memory and disk are estimated.
url="" sha256=""
case "$model" in
small.en)
    sha256=f953ad0fd29cacd07d5a9eda5624af0f6bcf2258be67c92b79389873d91e0872
    megabytes=484 gpu_gib=4 disk_gib=3
    ;;
small)
    sha256=9ecf779972d90ba49c06d968637d720dd632c55bbf19d441fb42bf17a411e794
    megabytes=484 gpu_gib=4 disk_gib=3
    ;;
medium.en)
    sha256=d7440d1dc186f76616474e0ff0b3b6b879abc9d1a4926b7adfa41db2d497ab4f
    megabytes=1530 gpu_gib=6 disk_gib=8
    ;;
medium)
    sha256=345ae4da62f9b3d59415adc60127b97c714f32e89e936602e85993674d08dcb1
    megabytes=1530 gpu_gib=6 disk_gib=8
    ;;
large-v3)
    sha256=e5b1a55b89c1367dacf97e3e19bfd829a01529dbfdeefa8caeb59b3f1b81dadb
    megabytes=3090 gpu_gib=10 disk_gib=14
    ;;
distil-large-v3)
    megabytes=3030 gpu_gib=8 disk_gib=14
    ;;
*)
    fail "WHISPER_MODEL is $model: choose small.en, small, medium.en, medium, large-v3" \
        "or distil-large-v3."
    ;;
esac
if [[ -n "$sha256" ]]; then
    url="https://openaipublic.azureedge.net/main/whisper/models/$sha256/$model.pt"
fi

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
    say "Step 1 of 2: fetching Whisper $model ($megabytes MB)"
    if [[ -z "$url" ]]; then
        fetch_from_hub
        return
    fi
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

# The hub holds Distil-Whisper as transformers' files; the converter makes of them what OpenAI's are.
fetch_from_hub() {
    local repository="distil-whisper/$model"
    hub_download "$repository" main
    (cd "$examples/whisper" && python3 distil_whisper/convert_from_distil_whisper.py \
        --model_name "$weights" --output_dir "$weights" --output_name "$model") ||
        build_failed "Converting $repository"
}

main() {
    local stamp
    refuse_merge_markers
    choose_gpu
    take_build_lock
    stamp="$(engine_stamp "whisper-$model ${sha256:-hub}" "${options[@]}")"
    if is_built "$folder" "$stamp"; then
        say "Whisper $model is built for this GPU: $folder"
        return
    fi
    need_gpu_memory "$gpu_gib" "Whisper $model"
    need_disk "$disk_gib" "Whisper $model"
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
