"""Fused kernels for CUDA."""
