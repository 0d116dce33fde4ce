"""The command line. It turns strings into configurations, and imports torch only for commands that need torch."""
