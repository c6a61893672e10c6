"""The ground: what measuring and publishing share. Imports no torch and nothing above it."""
