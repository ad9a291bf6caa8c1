"""`make bench-optimizer`: what the optimizer finds beside what its peers find, all timed in one interleaved run."""
