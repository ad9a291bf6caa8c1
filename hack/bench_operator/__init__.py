"""What the operator costs, beside the floor: a bare client that sends the same writes. `make bench-operator`."""
