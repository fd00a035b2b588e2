"""Faults on real clusters of real processes, while real clients write; then what was acknowledged is looked for."""
