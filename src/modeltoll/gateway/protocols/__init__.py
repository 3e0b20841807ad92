"""Serving protocols: request and answer to evidence, one file each."""
