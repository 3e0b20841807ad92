"""The settings of a gateway: their models, how they are loaded, and their error messages."""
