"""Metrics, logs and events of the operator process."""
