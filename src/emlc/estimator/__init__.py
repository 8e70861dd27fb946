"""EMLC with scikit-learn's conventions."""
