"""The `ottla` command: what people and scripts say to a node or a cluster."""
