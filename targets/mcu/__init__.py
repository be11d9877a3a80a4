"""Plain C for microcontrollers, and for the host: no heap, no operating system, one static arena."""
