"""From a model file to results: import, prune, quantize, pack, compile, drive a device.

This room knows no rail, no overlay by name and no command line.
"""
