"""Pairs of tokens: masks, tiles, blocks, documents, caches of keys and values."""
