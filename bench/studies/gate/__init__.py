"""Whether one source tree is slower, or takes more, than another."""
