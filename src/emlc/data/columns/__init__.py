"""The columns of tables: what kind of values each has, and how these become features."""
