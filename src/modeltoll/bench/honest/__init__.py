"""Workloads of honest callers, among them those to whom a toll may cost more."""
