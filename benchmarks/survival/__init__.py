"""Does what a user has survive? Kills at random moments of training and predicting, and folders of many pictures."""
