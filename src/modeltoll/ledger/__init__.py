"""The shared memory of the gateways."""
