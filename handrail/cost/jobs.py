"""What a job at Hugging Face costs: which of their machines fits, how long, how much."""

import math

from handrail.cost.estimate import weigh
from handrail.cost.gpus import gb, gpus, live_prices
from handrail.project.project import stop


def price_of_job(project, script, values, flavor=None, hours=None):
    """Return (flavor, hours, what they cost) of a job at Hugging Face.

    Without `flavor` it is the cheapest that fits; without `hours`, twice the longest estimate and a
    quarter of an hour for the set-up. Raises Stop for a flavor that is too small.
    """
    counted, found = weigh(project, script, values, live=live_prices())
    known = {gpus()[offer.name].get("flavor"): offer for offer in found}
    fit = [name for name, offer in known.items() if name and offer.fit == "yes"]
    flavor = flavor or min(fit, key=lambda name: known[name].dollars[1], default="any of them")
    offer = known.get(flavor)
    if flavor.startswith(("cpu", "any")) or offer and offer.fit == "no":
        enough = ", ".join(fit) or "none with one GPU"
        need, typed = gb(counted["bf16"].peak), project.typed
        raise stop("too large for a job", need=need, flavor=flavor, enough=enough, typed=typed)
    if not offer and not hours:
        raise stop("hours unknown", flavor=flavor)
    hours = hours or math.ceil((2 * offer.hours[1] + 0.25) * 2) / 2
    if not offer:
        return flavor, hours, f"{hours:g} h of {flavor} (`hf jobs hardware` has its price)"
    price = offer.dollars[1] / offer.hours[1]
    each = f"{hours:g} h at ${price:.2f} an hour ({offer.source}, {offer.read})"
    return flavor, hours, f"${hours * price:.2f}, {each}"
