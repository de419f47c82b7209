"""Figures inside the page: what each shows, and the picture as data that needs no network."""

import base64

from rlctrl.report.html import Html, prose, tag

# name: (section, title, what to see); T-numbers are those of the theory page
CAPTIONS = {
    "value_and_policy": (
        "reference",
        "Optimal value V* and policy π* (T2, T3)",
        "Left V*: what is still to be earned from each state, level lines in white. Beside it π*: a dashed line marks where an unclipped "
        "policy would leave the box of its input.",
    ),
    "gradient": ("reference", "Gradient of V* (T4)", "The slope of the value along each state: kinks of V* are jumps here."),
    "residual": (
        "reference",
        "Bellman residual off the nodes (T2)",
        "By how much max over u of Q* misses V* between the points the method worked at: small everywhere is what one wants.",
    ),
    "value_slices": ("reference", "V* on slices", "Two states at a time, the others held at the value in the title."),
    "references": (
        "reference",
        "References side by side",
        "V of every reference along the first state, its stated error as a band: where bands overlap, the references agree.",
    ),
    "convergence_of_the_method": ("reference", "Convergence of the method", "Change per iteration; it must fall to the tolerance."),
    "q_slices": (
        "critic",
        "Q*, best fit and trained critic against the input",
        "Cuts at the states in the titles. Dots mark the maxima: where they differ, the greedy policy differs from π*.",
    ),
    "e_q_map": (
        "critic",
        "What the network cannot represent: e_Q (T10)",
        "Q* minus its best fit. Red: the fit is too low; blue: too high. Dots: where the training data lay.",
    ),
    "e_star": (
        "critic",
        "What noise and policy add to a TD error: e* (T11)",
        "Histograms over the transitions. The noise part has zero mean given z; the policy part is never negative.",
    ),
    "error_budget": (
        "budget",
        "Error budget",
        "Size of every part of Q* − Q̂ and, in brackets, its signed share of the mean square error; the dashed line is the whole error.",
    ),
    "training": (
        "convergence",
        "The training (T6, T12)",
        "From above: distance of the weights from ω*, root mean square TD error on the replay memory, and the terms it is made of.",
    ),
    "excitation": (
        "convergence",
        "Excitation: eigenvalues of A (T16)",
        "The dot is the effective rank. Directions to its right are not excited: the data say nothing about them.",
    ),
    "lyapunov": (
        "convergence",
        "Change of ‖ω̃‖² per step and its terms (T17)",
        "Above the terms of the step identity, below their sum on top of the measured change: circles must lie on the line. "
        "Of updates other than T14 the change alone.",
    ),
    "convergence": (
        "convergence",
        "The convergence theory beside what happened (T18, T19)",
        "Above the excited part of ‖ω̃‖ with the radii between which a decrease is promised; below the rate promised and the rate observed.",
    ),
    "closed_loop": (
        "policies",
        "Closed loop",
        "States and inputs of every policy on the same noise; dotted lines are the bounds of the box.",
    ),
    "returns": (
        "policies",
        "Discounted return of every policy (T1)",
        "Means with 95 % confidence intervals; further to the right is better. The line is the V* of the reference.",
    ),
}


def figures_of(folder, section) -> Html:
    """All figures that belong to a section; those nobody described come in the section "other"."""
    named = [name for name in folder.figures if _described(folder, name)[0] == section]
    order = [*CAPTIONS, *named]
    return Html("".join(_figure(folder, name) for name in sorted(named, key=order.index)))


def title_of(folder, name) -> str:
    """What a figure is called."""
    return _described(folder, name)[1]


def _described(folder, name):
    if folder.solved and name == "convergence":
        name = "convergence_of_the_method"
    return CAPTIONS.get(name, ("other", name.replace("_", " "), ""))


def _figure(folder, name):
    media, content = folder.figures[name]
    _, title, text = _described(folder, name)
    picture = f"data:{media};base64,{base64.b64encode(content).decode()}"
    image = tag("img", src=picture, alt=f"{title}. {text}".strip(), data_name=name)
    caption = tag("figcaption", tag("strong", prose(f"{title}.")), " ", prose(text))
    return tag("figure", tag("button", image, type="button", class_="enlarge", title="Enlarge"), caption, id=f"figure-{name}")
