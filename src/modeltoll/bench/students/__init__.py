"""The models that thieves train."""
