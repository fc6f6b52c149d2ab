"""Files of logits: read in parts, scored block by block, written whole or not at all."""
