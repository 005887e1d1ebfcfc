"""Unattended campaigns: planned, journalled, checked, analysed again from raw samples."""
