"""Capture: torch.export programs, modules, files and ONNX models become a FLOAT graph."""
