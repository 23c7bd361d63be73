"""The figures of the README, measured on this machine: `make bench`."""
