"""One file a method; all are trained by the same loop. :mod:`emlc.config.methods` lists them by name."""
