"""Values that every stage shares; nothing in here imports another part of the gateway."""
