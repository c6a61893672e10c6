"""How one call is measured: time, memory, work, and when to stop."""
