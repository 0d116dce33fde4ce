"""The network: backbone, FPN or BiFPN, FCOS head, mask branch and semantic head, and CondInst that calls them."""
