"""Simulate the cost of a tariff for honest callers and thieves, without a gateway."""
