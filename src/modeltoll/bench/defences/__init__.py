"""Defences to compare with, one file each."""
