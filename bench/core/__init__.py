"""Code that measuring and publishing share. Imports no torch, and nothing of the floors above."""
