"""An API gateway: one front door that serves GraphQL, REST and API keys over a company's own services."""

__version__ = "0.1.0"
