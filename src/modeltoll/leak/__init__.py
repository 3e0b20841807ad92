"""Leak measures: how much each answer reveals about the model."""
