"""The head of YOLACT and its prototypes."""
