"""Honest callers, and those whom a toll might hurt."""
