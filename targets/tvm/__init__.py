"""CPUs and GPUs by way of TVM's code generators; the schedules are those of `kernels/cpu` and `kernels/gpu`."""
