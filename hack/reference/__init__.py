"""Writes docs/reference from what it describes: the CRD, the command line, values.yaml, the enums, the settings."""
