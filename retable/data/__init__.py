"""Data sets: fetched, hashed, then parsed; nothing here needs torch except `graphs`."""
