"""Packed codes, and the file that carries them."""
