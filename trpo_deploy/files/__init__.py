"""The files of a run and of an exported policy: where they are, how they are read and written."""
