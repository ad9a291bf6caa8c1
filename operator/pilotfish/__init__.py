"""Pilotfish: a Kubernetes operator for AI model deployments."""
