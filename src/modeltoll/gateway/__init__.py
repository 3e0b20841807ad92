"""The toll house."""
