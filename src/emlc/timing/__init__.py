"""What `emlc bench` measures: methods beside each other, within one process."""
