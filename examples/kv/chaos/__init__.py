"""Kills nodes of the store while clients use it, and judges what they saw."""
