"""handrail: from data to a language model of your own, one understood step at a time."""

__version__ = "0.2.0"
