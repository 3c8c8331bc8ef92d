"""A real OpenAI-compatible server for tests: llama.cpp's own, in a process that can be killed.

    python -m tests.llama_server GGUF PORT KEY

Prints its address when it is ready and serves until its standard input is closed.
"""

from __future__ import annotations

import sys

import xllamacpp


def main() -> None:
    path, port, key = sys.argv[1:]
    parameters = xllamacpp.CommonParams()
    parameters.model.path = path
    parameters.n_ctx = 4096
    parameters.n_parallel = 2
    parameters.n_batch = parameters.n_ubatch = 32
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = 2
    parameters.verbosity = -1
    parameters.endpoint_slots = True
    parameters.api_keys = [key]
    parameters.port = int(port)
    server = xllamacpp.Server(parameters)
    print(server.listening_address, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
