"""What `condinst predict` writes into --out, so that no result is lost however the run ends."""
