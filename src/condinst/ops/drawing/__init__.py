"""Drawing: instances in a picture, charts, sheets of pictures, and HTML pages."""
