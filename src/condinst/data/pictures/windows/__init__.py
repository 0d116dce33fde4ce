"""Large picture files that are read window by window, not decoded as a whole."""
