"""This package's Triton kernels."""
