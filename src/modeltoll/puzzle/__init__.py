"""Work that is hard to do and easy to check."""
