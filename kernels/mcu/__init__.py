"""C kernels for microcontrollers and the Python that prepares their parameters."""
