"""What each request means: the one core behind both doors."""
