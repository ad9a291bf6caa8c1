"""Pilotfish: a Kubernetes operator for AI model deployments."""

from pilotfish.pack import pack

__all__ = ["pack"]
