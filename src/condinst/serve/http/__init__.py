"""The HTTP side of the server: reading requests within limits, access, headers and pages."""
