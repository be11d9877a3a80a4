"""Target family `cuda`: integer programs as CUDA kernels, a planned arena and a list of launches."""
