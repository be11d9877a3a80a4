"""What kernels for several kinds of machine share."""
