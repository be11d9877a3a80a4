"""How many threads TVM's pool uses."""

from __future__ import annotations


def use_threads(threads: int) -> None:
    """Set the size of the pool of this process; the calling thread is one of them."""
    import tvm

    tvm.get_global_func("runtime.config_threadpool")(1, threads)
