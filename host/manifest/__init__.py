"""Types of overlay manifests and register maps."""
