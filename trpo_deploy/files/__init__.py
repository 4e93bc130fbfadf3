"""Files of a run and of an exported policy: locating, reading and writing them."""
