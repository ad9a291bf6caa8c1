"""`pilotfish doctor`: what stands in the way of serving models on a cluster, and what to do about it."""
