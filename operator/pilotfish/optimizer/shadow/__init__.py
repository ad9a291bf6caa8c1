"""The shadow: one more endpoint of the traffic Service. Stable answers; a sample is asked of the candidate too."""
