"""Training runs that processes and machines share: leases on them, and the loop over them."""
