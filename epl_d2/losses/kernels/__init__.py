"""How the losses of EPL are computed: in plain PyTorch, by Numba on a CPU, by Triton on CUDA."""
