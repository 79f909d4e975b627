"""A page on which digits are drawn and classified, by networks that are part of it."""
