"""The family compared: CondInst, its relatives and Mask R-CNN on one trunk, and the ablations of the paper."""
