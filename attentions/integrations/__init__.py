"""Mechanisms inside models of other libraries: timm, torch and Transformers."""
