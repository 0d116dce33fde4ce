"""Predict very many pictures: several processes, results in shards, and nothing twice after an interruption."""
