"""The FPGA benches: twins against the reference, resources, folding."""
