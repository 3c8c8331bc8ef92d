#!/usr/bin/env bash
# install-system-packages.sh run | test: installs what running or testing needs of the system and is
# not there: with root or sudo at once, else it says which packages to install by which command, and
# ends with 1. make calls it before it installs anything else.
set -euo pipefail

PATH="$PATH:/usr/sbin:/sbin" # where Debian has nginx and ldconfig, and not everybody looks

# need WHO PACKAGE COMMAND... : this package of Debian and Ubuntu is needed, by the program when it
# runs or by the tests with this marker; the command succeeds where it is there.
missing=()
need() {
    "${@:3}" >/dev/null 2>&1 || missing+=("$2")
}

is_library() {
    [[ "$(ldconfig -p)" == *"$1 "* ]]
}

# A snap cannot read the recordings that the tests give the browser for a microphone.
is_chromium() {
    local found
    found="$(command -v chromium)" && [[ "$found" != /snap/* ]]
}

need run libgomp1 is_library libgomp.so.1 # llama.cpp's threads
case "${1:-}" in
    run)
        who="WhisperFusion needs" else=
        ;;
    test)
        who="The tests need" else=", or run \`make test-python\`, which needs less"
        need nginx nginx command -v nginx
        need curl curl command -v curl
        need browser fontconfig command -v fc-match
        need browser libnss3 is_library libnss3.so
        need browser libexpat1 is_library libexpat.so.1
        need browser libatomic1 is_library libatomic.so.1 # Playwright's own Node.js
        # The browser itself comes from npm, which has none for other processors.
        [[ "$(uname -m)" == x86_64 ]] || need browser chromium is_chromium
        ;;
    *)
        echo "usage: $0 run | test" >&2
        exit 64
        ;;
esac

if ((${#missing[@]} == 0)); then
    exit 0
fi

install=(apt-get install --yes --no-install-recommends "${missing[@]}")
fail() {
    echo "$who ${missing[*]}: $*, then run this again$else." >&2
    exit 1
}

command -v apt-get >/dev/null ||
    fail "install them, here under other names, with this system's package manager"
as_root=(env)
if [[ "$(id -u)" != 0 ]]; then
    ask=()
    [[ -t 0 ]] || ask=(--non-interactive) # without a terminal sudo cannot ask for a password
    sudo "${ask[@]}" true 2>/dev/null || fail "as root, run \`${install[*]}\`"
    as_root=(sudo env)
fi

echo "$who ${missing[*]}: installing now ..." >&2
# Lists that are old will often do: the installation decides.
"${as_root[@]}" apt-get update -qq >/dev/null || true
"${as_root[@]}" DEBIAN_FRONTEND=noninteractive "${install[@]}" -qq >/dev/null ||
    fail "apt-get could not install them, for the reason above; mend that"

# The tests start an nginx of their own; Debian's package would serve port 80 from now on.
if [[ " ${missing[*]} " == *" nginx "* && -d /run/systemd/system ]]; then
    "${as_root[@]}" systemctl disable --quiet --now nginx
fi
