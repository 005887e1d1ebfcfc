"""Recovery training: a short fine-tune of a compressed network (extra `train`)."""
