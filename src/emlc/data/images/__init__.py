"""Images: decoded singly or in bulk, and kept in memory, in a cache, or on disk until they are needed."""
