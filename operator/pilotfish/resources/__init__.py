"""Builders of whole Kubernetes objects. Data in, data out."""
