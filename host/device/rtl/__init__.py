"""The accelerator's RTL as a device: built by Verilator, driven like a board."""
