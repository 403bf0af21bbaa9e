"""Memory, time and money of a run, before any of it is spent: `handrail estimate`."""
