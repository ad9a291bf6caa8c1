"""What every test may ask for."""

pytest_plugins = ["support.apiserver", "support.record"]
