"""Bugs planted into real nodes, which a chaos run must convict by what clients saw of them."""
