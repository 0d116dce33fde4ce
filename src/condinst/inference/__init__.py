"""From the network's output to instances in the original image's pixels."""
