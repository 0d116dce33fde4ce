"""Pictures as Python users have them: paths, folders, patterns, addresses, files, arrays, images, tensors."""
