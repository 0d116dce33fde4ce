"""Follow instances from frame to frame."""
