"""What every call to a service crosses, from either front."""
