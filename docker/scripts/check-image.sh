#!/usr/bin/env bash
# Checks a GPU image once it is built: no merge markers, every module compiles, every library is
# there and says its version. The Dockerfile runs it; so may you: docker compose run --rm
# --entrypoint docker/scripts/check-image.sh whisperfusion
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

refuse_merge_markers
say "ok  no merge markers"

find "$project" -name '*.py' -not -path '*/scratch-space/*' -print0 |
    xargs --null python3 -m py_compile || fail "A module does not compile: see above."
say "ok  every module compiles"

libraries=(av torch faster_whisper whisperspeech webdataset cuda)
# tensorrt_llm opens the driver's library, which a machine that builds images need not have.
if nvidia-smi >/dev/null 2>&1; then
    libraries+=(tensorrt_llm)
else
    say "ok  tensorrt_llm $(tensorrt_llm_version) (not imported: no GPU here)"
fi
for library in "${libraries[@]}"; do
    version="$(python3 -c "import $library; print(getattr($library, '__version__', 'imported'))")" ||
        fail "The Python library $library cannot be imported: see above, and README.md's table."
    say "ok  $library ${version##*$'\n'}"
done
