"""What a stage does for one candidate, in a process of its own: evaluate it, compress it, build it."""
