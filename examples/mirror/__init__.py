"""Mirroring between clusters, one scenario a module; `README.md` tells what they show."""
