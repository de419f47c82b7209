"""The arrays of `slices.npz` as the JSON that the viewer of the page reads: little-endian single precision in base64."""

import base64

import numpy as np

# name: (label, what it is, over states and inputs or states alone); fields of one group share their colours
FIELDS = {
    "q_star": ("Q* (reference)", "value"),
    "q_trained": ("Q̂ (trained critic)", "value"),
    "q_best": ("Q̂ at ω* (best fit)", "value"),
    "v_star": ("V* (reference)", "value"),
}
POLICIES = {"policy_star": "π*", "policy_critic": "greedy policy of Q̂"}


def viewer_data(slices) -> dict:
    """{"axes": …, "fixed": …, "fields": …}; empty if there is nothing to view."""
    if "q_star" not in slices:
        return {}
    described = [slices[k].tolist() for k in ("names", "units", "periodic", "discrete", "at")]
    n, varying = int(slices["states"]), slices["axes"].tolist()
    signals = [dict(zip(("name", "unit", "periodic", "discrete", "at"), row, strict=True)) for row in zip(*described, strict=True)]
    axes = [signals[a] | {"input": a >= n, "nodes": slices[f"nodes_{k}"].tolist()} for k, a in enumerate(varying)]
    everywhere, states = [*range(len(axes))], [k for k, a in enumerate(varying) if a < n]
    fields = [
        _field(key, label, kind, states if key == "v_star" else everywhere, slices[key])
        for key, (label, kind) in FIELDS.items()
        if key in slices
    ]
    for key, label in POLICIES.items():
        if key in slices:
            fields += [
                _field(f"{key}_{signal['name']}", f"{label}: {signal['name']}", "policy", states, values, signal["unit"])
                for signal, values in zip(signals[n:], slices[key], strict=True)
            ]
    return {"axes": axes, "fixed": [s for a, s in enumerate(signals) if a not in varying], "fields": fields}


def _field(key, label, kind, axes, values, unit=""):
    data = base64.b64encode(np.ascontiguousarray(values, "<f4").tobytes()).decode()
    return {"key": key, "label": label, "kind": kind, "axes": axes, "unit": "" if unit == "1" else unit, "data": data}
