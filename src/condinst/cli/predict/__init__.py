"""`condinst predict`: its options, its loop over the images, and what it prints."""
