"""handrail: from data to a language model of your own, one understood step at a time."""

__version__ = "0.4.0"


def __getattr__(name):
    """Import the doctor when it is asked for: `handrail --help` must not wait for torch."""
    if name not in ("Doctor", "Finding"):
        raise AttributeError(f"module 'handrail' has no attribute {name!r}")
    from handrail.doctor.doctor import Doctor
    from handrail.doctor.findings import Finding

    return {"Doctor": Doctor, "Finding": Finding}[name]
