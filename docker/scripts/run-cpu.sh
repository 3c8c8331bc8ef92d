#!/bin/sh
# Entry point of the CPU image: fetches the models that the volume lacks, then becomes main.py. Flags
# go to main.py; a command is run as it is.
set -eu
case "${1:--}" in
-*) ;;
*)
    command -v "$1" >/dev/null || {
        echo "ERROR: There is no command \`$1\` in this image: give the server flags, or a command that is there." >&2
        exit 78
    }
    exec "$@"
    ;;
esac
python -m fusion.models
exec python main.py "$@"
