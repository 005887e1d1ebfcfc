"""Choose which weights become zero."""
