"""The board behind PYNQ, and PYNQ on an emulated board. Nothing here imports pynq until asked."""
