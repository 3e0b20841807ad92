"""The models under attack."""
