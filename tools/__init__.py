"""Programs for those who work on condinst; the package itself never imports them."""
