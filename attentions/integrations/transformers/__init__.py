"""Mechanisms inside models of Transformers; imported through `attentions.huggingface`."""

try:
    import transformers  # noqa: F401
except ImportError as error:
    raise ImportError(
        "attentions.huggingface needs a package that is not installed: pip install "
        "'attnbench[transformers]'"
    ) from error
