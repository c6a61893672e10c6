"""Launch manifests: the kernels that Triton operators launch on a card, found without the card.

A child process (`noting`) lets the wrappers run on CPU tensors, compiles each kernel for the card
and notes its launch instead of making it. `command` starts it; `page` shows the launches.
"""
