"""The benchmark of model extraction attacks and defences."""
