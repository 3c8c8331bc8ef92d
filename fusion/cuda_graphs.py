"""CUDA graphs of torch.compile in threads. For the two files that compile; imports PyTorch."""

from __future__ import annotations

import collections
import threading


def allow_in_this_thread() -> None:
    """Let the calling thread record and replay CUDA graphs that are its own.

    PyTorch keeps them in thread-local storage, which it makes for the one thread that happens to
    import the module; in any other the first replay fails with a bare AssertionError
    (torch/_inductor/cudagraph_trees.py, `get_obj`, from 2.2 to 2.11).
    """
    from torch._inductor.cudagraph_trees import local

    if not hasattr(local, "tree_manager_containers"):
        local.tree_manager_containers = {}
        local.tree_manager_locks = collections.defaultdict(threading.Lock)
