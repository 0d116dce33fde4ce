"""Whether results of `condinst predict` survive: kills at random moments, and folders of many pictures."""
