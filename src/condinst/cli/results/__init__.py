"""Write the results of `condinst predict` into --out. No result is lost, however the run ends."""
