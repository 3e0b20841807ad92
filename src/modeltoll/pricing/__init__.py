"""Tariffs: the price of leaks, in reference seconds of work."""
