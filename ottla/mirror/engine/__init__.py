"""What does what `mirror.core` decides: reads the source, writes transactions on the target, keeps topics in step."""
