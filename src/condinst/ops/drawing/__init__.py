"""Pictures and pages: instances drawn into a picture, charts, sheets of pictures, HTML."""
