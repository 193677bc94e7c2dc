"""The subcommand `sweep`: run a sweep that a TOML file describes, look at it, spread it out."""
