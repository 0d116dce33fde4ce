"""Planning a run: settings from what was asked for, the data and the machine."""
