"""Where prebuilt accelerators are found, and whether one may be trusted."""
