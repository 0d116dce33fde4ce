"""Read pictures from paths, folders, patterns, addresses, files, arrays, PIL images and tensors."""
