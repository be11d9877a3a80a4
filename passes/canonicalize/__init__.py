"""Function-preserving clean-up: constants, batch norm, composite ops."""
