"""No order of events opens a device to two pods, loses a lease, or leaves anything behind."""

from hypothesis import settings

from tests.attach.machine import NodeMachine

TestNode = NodeMachine.TestCase
TestNode.settings = settings(max_examples=60, stateful_step_count=40)
