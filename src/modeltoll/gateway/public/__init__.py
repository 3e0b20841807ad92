"""The public HTTP application of a gateway."""
