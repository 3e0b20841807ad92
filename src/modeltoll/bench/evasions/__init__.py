"""Evasions: what an attacker adds to an attack in order to pay less."""
