"""Student and teacher networks: how they are built, filled with weights, and asked."""
