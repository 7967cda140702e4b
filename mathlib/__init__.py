"""Vectorised options mathematics: flat float64 arrays in, arrays out, no loop over rows."""
