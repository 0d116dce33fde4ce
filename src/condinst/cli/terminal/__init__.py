"""The terminal: prints lines and tables, and suggests the intended option for a mistyped one."""
