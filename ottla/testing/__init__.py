"""What users import in their own tests: a local cluster (`cluster.Cluster`) and pytest fixtures (`pytest_plugin`)."""
