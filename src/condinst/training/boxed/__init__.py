"""Targets and losses of the methods whose masks fill the boxes of their instances: BlendMask and MEInst."""
