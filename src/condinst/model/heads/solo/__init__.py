"""The heads of the SOLO family: class logits of the cells of a grid, and the masks of the cells."""
