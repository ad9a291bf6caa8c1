"""The step machine of a rollout: from an artifact to the stable revision, and back when the numbers say so. Pure."""
