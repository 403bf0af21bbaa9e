"""The old import path, for rent/ until it has moved: everything here is in cost/."""

from handrail.cost.estimate import count as rehearse  # noqa: F401
from handrail.cost.gpus import gb, gpus  # noqa: F401
from handrail.cost.gpus import offers as all_offers


def offers(update, peak, updates):
    return all_offers({"bf16": update}, updates)
