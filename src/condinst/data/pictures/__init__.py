"""Picture files → (H, W, 3) uint8 RGB: lists, opens and decodes them, by one rule for each pixel format."""
