"""The checks of annotated pictures. Each file holds the checks of one kind."""
