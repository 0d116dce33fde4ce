"""Evaluation: COCO metrics, an analysis of the errors, and the report page."""
