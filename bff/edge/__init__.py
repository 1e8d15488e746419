"""The edge: ASGI layers that every request crosses, GraphQL and REST alike."""
