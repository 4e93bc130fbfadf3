"""What a policy computes, as plain arrays, and how they are read from torch."""
