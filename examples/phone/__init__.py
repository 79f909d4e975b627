"""Projects for phones around a compiled network."""
