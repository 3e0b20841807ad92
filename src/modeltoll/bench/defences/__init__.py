"""Defences other than tolls that the bench compares with."""
