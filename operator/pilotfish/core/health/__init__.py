"""Verdicts on a candidate's metrics: counters become figures, figures become verdicts. Pure, total over any input."""
