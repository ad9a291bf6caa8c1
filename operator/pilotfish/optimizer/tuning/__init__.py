"""Serving settings found by measuring a real Triton: `settings` and `search` are pure, `bench` and `server` are not."""
