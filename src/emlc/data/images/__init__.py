"""Images: decoded one at a time or many, held in memory, in a cache, or read when asked for."""
