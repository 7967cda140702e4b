"""Kill -9 at every change that a command makes to a file of the lake, and what comes of it."""
