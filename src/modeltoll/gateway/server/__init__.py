"""Runs a gateway: listeners, worker processes, signals, reload."""
