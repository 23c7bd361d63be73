"""Borrowing GPUs in code and from the shell."""
