"""A page to browse an atlas by: static files, made from the pairs that are there."""
