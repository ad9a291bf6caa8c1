"""`pilotfish bench`: load on one's own endpoint, a table of throughput and latency by concurrency."""
