"""Decisions in a person's words. Pure."""

from collections.abc import Mapping

from catalog.demand import IGNORED
from catalog.dimension import DIMENSIONS, MEMORY, VCPU, render, render_lacking
from catalog.model import Reserve, SandboxSize, SlaClass
from webhook.decision import Place


def reason_line(place: Place) -> str:
    """Say in one sentence which size was chosen, for which class, and what made it that one."""
    choice = place.choice
    text = f"{choice.size.name} for class {place.sla_class.name}"
    if place.asked_class != place.sla_class.name:
        text += f" (fallback of {place.asked_class})"
    return f"{text}; {driver_sentence(place)}"


def driver_sentence(place: Place) -> str:
    """Say which dimension drove the size."""
    choice = place.choice
    if choice.driver and choice.without_driver:
        ask = choice.driver.render(place.ask[choice.driver.index])
        return f"{choice.driver} {ask} drove it (without that, {choice.without_driver.name} would do)"
    if choice.smaller and choice.smaller_offer:
        short = render_lacking(choice.smaller_offer, place.ask)
        return f"no one dimension alone drove it; the next smaller, {choice.smaller.name}, lacks {short}"
    return "the cheapest size of the class holds it"


def counted(number: int, noun: str) -> str:
    """Write "1 class", "2 classes"."""
    plural = f"{noun}es" if noun.endswith("s") else f"{noun}s"
    return f"{number} {noun if number == 1 else plural}"


def short_cost(place: Place) -> str:
    """Say how large the size is: CPU and memory that pods may have of it."""
    offer = place.choice.offer
    return f"{render(VCPU, offer[VCPU.index])} vCPU, {render(MEMORY, offer[MEMORY.index])}"


def reserve_sentence(place: Place) -> str:
    """Say how much of the size the pod takes."""
    if place.reserve is Reserve.SIZE:
        return "reserve: size - the pod takes the whole of its size"
    return "reserve: ask - the pod takes what it asks, and shares the node"


def floor_text(sla_class: SlaClass) -> str:
    """Write a class's floor in one line."""
    parts = [f"{d} {d.render(sla_class.floor[d.index])}" for d in DIMENSIONS if sla_class.floor[d.index]]
    if sla_class.gpu:
        models = "|".join(sla_class.gpu.models) or "any"
        parts.append(f"{sla_class.gpu.count} GPU {models} ({sla_class.gpu.mode})")
    return ", ".join(parts) or "none"


def size_fields(size: SandboxSize) -> dict[str, object]:
    """Write a size as plain values, in catalogue units; what nobody published is absent."""
    fields: dict[str, object] = {
        "name": size.name,
        "family": size.family,
        "generation": size.generation,
        "arch": size.arch,
    }
    for dimension in DIMENSIONS:
        figure = size.figures[dimension.index]
        if figure is not None:
            fields[dimension.path] = dimension.render(figure)
    if size.gpu:
        fields["gpu.model"] = size.gpu.model or "not published"
        if size.gpu.share:
            fields["gpu.share"] = size.gpu.share
    fields["cost"] = render(VCPU, size.cost_m)
    shown: Mapping[str, object] = {f"{path} (never promised)": value for path, value in size.shown}
    return {key: value for key, value in {**fields, **shown}.items() if value is not None}


def uncovered_sentence(resource: str) -> str:
    """Say why a resource of the pod was left alone."""
    why = IGNORED.get(resource, "no dimension stands for it, and other consumers may know it")
    return f"{resource} is left as it is: {why}"
