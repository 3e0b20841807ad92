"""The gateway: a reverse proxy in front of a model server that measures, prices and seals its answers."""
