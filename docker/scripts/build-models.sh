#!/usr/bin/env bash
# Builds what is missing: the Whisper engines, and the language model that MODEL names.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

here="$(dirname "${BASH_SOURCE[0]}")"
model="${MODEL:-Phi-3-mini-4k-instruct}"

# The name is checked before Whisper is built, which takes minutes.
case "$model" in
mistral) language_model=("$here/build-mistral.sh") ;;
phi-2 | Phi-3-mini-4k-instruct | Phi-3-mini-128k-instruct)
    language_model=("$here/build-phi.sh" "$model")
    ;;
*)
    fail "MODEL is $model: choose Phi-3-mini-4k-instruct, Phi-3-mini-128k-instruct, phi-2" \
        "or mistral."
    ;;
esac

"$here/build-whisper.sh"
"${language_model[@]}"
