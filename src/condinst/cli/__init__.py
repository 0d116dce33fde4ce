"""The command line. Strings become configurations here; torch loads only when a command needs it."""
