"""Plug-ins for Modeltoll."""
