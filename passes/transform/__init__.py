"""Function-preserving rescaling between layers."""
