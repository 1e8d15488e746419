"""Requests that go to a service as they are, and its answers back."""
