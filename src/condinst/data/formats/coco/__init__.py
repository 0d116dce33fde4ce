"""COCO JSON and the layouts that tools export it in."""
