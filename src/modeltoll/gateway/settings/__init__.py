"""The settings of a gateway: their models, how they are loaded and what is said of errors."""
