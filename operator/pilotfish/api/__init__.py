"""The contract: spec, status, conditions and reports as frozen models. Imports pydantic only."""
