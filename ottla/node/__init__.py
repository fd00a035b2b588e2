"""One running node: its configuration, its data directory, its life, and the wiring of everything below it."""
