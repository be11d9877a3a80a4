"""CUDA kernels: sources (`cuda/`), one Python module per family with its tile space and launches, and a CPU emulator."""
