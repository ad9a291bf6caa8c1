"""Decisions: what was observed becomes a plan. No I/O, no clock, no randomness."""
