"""The operator's desk: an API of its own on the admin port."""
