"""Where learning ends, in closed form."""
