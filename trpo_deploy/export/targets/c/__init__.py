"""The target ``c``: C99 source of a policy, for microcontrollers and C++."""
