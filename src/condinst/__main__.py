"""`python -m condinst` is the command `condinst`."""

from condinst.cli.main import main

main()
