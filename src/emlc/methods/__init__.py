"""One file per method. The same loop trains them all; :mod:`emlc.config.methods` lists them by name."""
