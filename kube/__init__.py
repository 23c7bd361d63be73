"""The API server: raw objects in, raw objects out. Knows Kubernetes, and nothing of podsla."""
