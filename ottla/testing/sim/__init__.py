"""The simulator: the ports of `ottla.core.ports` on a virtual clock and a disk that forgets; seeded, deterministic."""
