"""Builds a gateway from its settings: the only package that names implementations."""
