"""Annotation formats: a reader for each, a writer where there is one, and what opens and converts data sets."""
