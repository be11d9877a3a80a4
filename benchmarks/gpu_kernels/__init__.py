"""Random cases for the CUDA kernels, and running them in the emulator."""
