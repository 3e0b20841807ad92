"""Identifies callers by API key, JSON Web Token or network address, and counts their daily quotas."""
