"""What the benches of CPU kernels by TVM share."""
