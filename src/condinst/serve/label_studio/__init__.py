"""The HTTP interface of a Label Studio ML backend: pre-annotations for the pictures of a project."""
