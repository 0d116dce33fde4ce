"""Annotation formats: a reader for each format, writers, and the code that opens and converts data sets."""
