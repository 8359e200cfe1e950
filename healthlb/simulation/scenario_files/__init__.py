"""Scenario files: TOML in, scenarios out, and back."""
