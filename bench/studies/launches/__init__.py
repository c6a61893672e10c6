"""Launch manifests: the kernels that Triton operators launch on a card, found without the card.

A child process (`noting`) lets the wrappers run on CPU tensors, compiles each kernel for the card
and notes its launch in place of making it. `command` asks for it; `page` says what was found.
"""
