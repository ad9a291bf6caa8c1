"""Everything that imports torch. Imported on demand only, so that the light image works without it."""
