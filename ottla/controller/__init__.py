"""The cluster's metadata: its records, the immutable image that they are replayed into, the controller's decisions."""
