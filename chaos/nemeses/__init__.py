"""Nemeses that want more than an installed package brings: gcc, libfaketime, or this project's history in git."""
