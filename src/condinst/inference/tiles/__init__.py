"""Large pictures in tiles: windows of a picture are segmented one by one, and their instances are joined."""
