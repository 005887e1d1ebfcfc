"""The board interface and what stands below it."""
