"""A cluster on one machine: its nodes' processes, their supervisor, and the channel over which it takes commands."""
