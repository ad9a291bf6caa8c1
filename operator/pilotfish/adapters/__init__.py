"""The I/O behind the ports."""
