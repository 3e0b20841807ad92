"""Leak measures: how much each answer gives away about the model."""
