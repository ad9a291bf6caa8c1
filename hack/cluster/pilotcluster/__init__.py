"""A local Kubernetes for development and tests: kind where an engine answers, else real binaries on this machine.

Standard library only, so that it runs before anything of the project is installed.
"""
