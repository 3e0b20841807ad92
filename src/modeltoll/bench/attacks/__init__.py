"""Thieves, one file each."""
