"""Where rounds are logged: one module for each kind of dashboard."""
