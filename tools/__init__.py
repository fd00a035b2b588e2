"""Programs of the project itself: code generation."""
