"""From the output of YOLACT to instances and their masks."""
