"""Metrics, audit log, traces and logging of a gateway."""
