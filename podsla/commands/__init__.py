"""The commands of `podsla`, a module each."""
