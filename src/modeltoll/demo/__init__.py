"""The demo: a victim, a gateway, an honest caller and thieves, end to end on embedded data."""
