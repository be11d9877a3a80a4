"""ONNX models become graphs: read a file safely, then one converter per op."""

from .file import metadata_of
from .model import OnnxImport, import_onnx

__all__ = ["OnnxImport", "import_onnx", "metadata_of"]
