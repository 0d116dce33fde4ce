"""The network: backbone, FPN or BiFPN, FCOS head, mask branch and semantic head; `CondInst` connects them."""
