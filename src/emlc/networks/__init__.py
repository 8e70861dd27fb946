"""Student and teacher networks: how they are built, get their initial weights, and predict."""
