"""Edits of every kind: what can be set, to which values, what the API server says to it, and what must come of it."""
