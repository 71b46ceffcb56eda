"""llama.cpp's server: `python -m benchmarks.llama_server FILE.gguf SLOTS CONTEXT THREADS` says its address, and serves.

It is the one that the package xllamacpp contains, with its defaults. Like a language model of the daemon it has a lower
priority, so that what else the machine does delays both alike. It ends with its standard input.
"""

import os
import sys

import xllamacpp  # type: ignore[import-untyped]  # it states no types

from edge_agent.language.worker import NICENESS


def main() -> None:
    """Loads the model and serves."""
    path, slots, context, threads = sys.argv[1:]
    os.nice(NICENESS)
    options = xllamacpp.CommonParams()
    options.model.path = path
    options.n_parallel, options.n_ctx = int(slots), int(slots) * int(context)
    options.cpuparams.n_threads = options.cpuparams_batch.n_threads = int(threads)
    server = xllamacpp.Server(options)
    print(server.listening_address, flush=True)
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
