#!/usr/bin/env bash
# Checks a GPU image once it is built: no merge markers, every module compiles, every library is
# there and says its version. The Dockerfile runs it; so may you:
# docker compose run --rm whisperfusion docker/scripts/check-image.sh
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

refuse_merge_markers
say "ok  no merge markers"

find "$project" -name '*.py' -not -path '*/scratch-space/*' -print0 |
    xargs --null python3 -m py_compile || fail "A module does not compile: see above."
say "ok  every module compiles"

# Modules and not only packages where it is a module that breaks: cuda-python 13 has no cudart, and
# whisperspeech alone imports nothing of what it needs.
modules=(av torch faster_whisper whisperspeech.pipeline webdataset cuda.cudart)
# tensorrt_llm opens the driver's library, which a machine that builds images need not have.
if nvidia-smi >/dev/null 2>&1; then
    modules+=(tensorrt_llm)
else
    say "ok  tensorrt_llm $(tensorrt_llm_version) (not imported: no GPU here)"
fi
for module in "${modules[@]}"; do
    package="${module%%.*}"
    version="$(python3 -c "import $module; print(getattr($package, '__version__', 'imported'))")" ||
        fail "The Python module $module cannot be imported: the reason is above, and" \
            "docker/README.md has a table of known ones."
    say "ok  $package ${version##*$'\n'}"
done
