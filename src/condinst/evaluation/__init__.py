"""What a model finds beside what is true: COCO's numbers, what goes wrong and why, as numbers and as a page."""
