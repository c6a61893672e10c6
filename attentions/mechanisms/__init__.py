"""The mechanisms: a file each, which reads as its paper does; `registry` imports them all."""
