"""YOLO segmentation: data.yaml and a text file for each picture."""
