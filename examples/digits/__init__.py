"""A tiny binary network on the 8x8 digits that scikit-learn carries."""
