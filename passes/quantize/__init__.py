"""Assignment of precisions and lowering to quantized ops."""
