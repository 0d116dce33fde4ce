"""The parts of a Result: boxes, masks and classes, and their conversion to the formats of other programs."""
