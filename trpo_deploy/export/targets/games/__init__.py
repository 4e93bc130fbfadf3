"""What the contracts of game engines share: a policy between other inputs and outputs."""
