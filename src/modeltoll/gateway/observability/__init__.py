"""Metrics, audit log, traces and logging of the gateway."""
