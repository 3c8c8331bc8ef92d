#!/bin/sh
# Entry point of the CPU image: fetches the models that the volume lacks, then becomes main.py.
set -eu
python -m fusion.models
exec python main.py "$@"
