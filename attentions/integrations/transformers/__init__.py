"""Mechanisms inside models of Transformers; imported through `attentions.huggingface`."""
