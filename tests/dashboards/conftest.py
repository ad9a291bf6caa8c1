"""A real API server that knows our kind."""

from support.kube import kubectl

__all__ = ["kubectl"]
