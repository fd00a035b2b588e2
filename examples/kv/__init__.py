"""A replicated key-value store: the smallest program on Ottla's consensus."""
