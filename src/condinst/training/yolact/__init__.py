"""The training targets and losses of YOLACT."""
