"""What people look at beside report.json: the page, TensorBoard logs, traces. Nothing here decides anything."""
