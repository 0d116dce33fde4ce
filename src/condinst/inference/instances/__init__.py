"""The parts of a Result: boxes, masks and classes, and the formats of other programs they are written in."""
