"""Model extraction attacks, one per file."""
