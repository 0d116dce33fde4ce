"""labelme: a JSON file beside each picture."""
