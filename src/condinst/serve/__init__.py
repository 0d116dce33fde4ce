"""An HTTP server for models: `condinst serve`. Needs the extra `serve`."""
