"""Launch manifests: the kernels that Triton operators launch on a card."""
