"""The public HTTP application of the gateway."""
