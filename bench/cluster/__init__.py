"""What pods and nodes cost in a real cluster, with podsla and without: `make bench-cluster`."""
