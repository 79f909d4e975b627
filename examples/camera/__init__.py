"""A page on which a network names what the camera sees."""
