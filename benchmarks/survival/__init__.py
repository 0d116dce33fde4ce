"""Kills at random moments of training and predicting, folders of many pictures, and planned and taken memory."""
