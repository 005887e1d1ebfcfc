"""Stream images through a device."""
