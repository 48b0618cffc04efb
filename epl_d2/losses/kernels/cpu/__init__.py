"""Compiled kernels for a CPU."""
