"""Suggestion algorithms: one file each, with a function `suggest` that hyperopt's `fmin(algo=...)` takes."""
