"""Cases for the microcontroller kernels, and how to run many of them on a host or an emulated core."""
