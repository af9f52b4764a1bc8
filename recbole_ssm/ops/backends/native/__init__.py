"""The C library. ``pip install`` builds it where a C compiler is there; PyTorch computes everything else."""
