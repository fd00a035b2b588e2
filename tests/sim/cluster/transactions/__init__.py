"""Clients that consume, transform and produce in transactions, in the simulated cluster: and who judges them."""
