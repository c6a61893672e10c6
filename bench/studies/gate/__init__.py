"""The regression gate: compare the times, memory, FLOPs and scores of two source trees."""
