"""What nodes offer: the figures of a size as node capacity and labels, and what autoscalers are told of them.

The controller that publishes them belongs here too. Never imports `webhook` or `attach`.
"""
