"""The sections of the page: from the summary of a run or a solve to HTML. A section that has nothing to say is empty."""

import numpy as np

from rlctrl.report import words
from rlctrl.report.asked import manifest, what_was_asked
from rlctrl.report.figures import figures_of
from rlctrl.report.html import Html, bullets, is_number, number, paragraph, prose, shown, table, tag

CANCELS = 3.0  # sum of the sizes of all shares, 1 if nothing cancels
VERDICTS = {"training": ("Training", "message"), "excitation": ("Excitation", "verdict"), "lyapunov": ("Convergence", "verdict")}


def sections(folder, viewer) -> list[tuple[str, str, Html]]:
    """(anchor, title, content) of every section that has content; `viewer` is that of the slices."""
    both = {
        "short": ("In short", _in_short_solve if folder.solved else _in_short),
        "asked": ("What was asked", what_was_asked),
        "reference": ("The references" if folder.solved else "The reference and its error", _references if folder.solved else _reference),
        "critic": ("The critic and its error", _critic),
        "budget": ("Error budget", _budget),
        "convergence": ("Did it converge?", _convergence),
        "slices": ("Slices of Q", lambda _: viewer),
        "policies": ("Policies side by side", _policies),
        "other": ("Further figures", lambda folder: figures_of(folder, "other")),
        "manifest": ("Manifest", manifest),
    }
    made = [(anchor, title, content(folder)) for anchor, (title, content) in both.items()]
    return [(anchor, title, content) for anchor, title, content in made if content]


def percent(value, digits=3):
    return f"{number(100 * value, digits)}\N{NO-BREAK SPACE}%" if is_number(value) else "–"


def tiles(*rows):
    """Headline numbers: (label, value, remark)."""
    tile = lambda label, value, remark: tag("div", tag("dt", label), tag("dd", tag("strong", value), tag("span", remark)), class_="tile")
    return tag("dl", *[tile(*row) for row in rows], class_="tiles")


def _in_short(folder):
    s = folder.summary
    critic, reference, returns = s.get("critic", {}), s.get("reference", {}), s.get("returns", {})
    best = next(iter(ranked(_keeping(s))), None)
    shown_tiles = []
    if reference:
        span = float(np.ptp(folder.slices["v_star"])) if "v_star" in folder.slices else None
        stated = f"{reference.get('method')}, {reference.get('error_kind')}{_span(span)}"
        shown_tiles.append(("Reference V*", f"± {number(reference.get('error'), 3)}", stated))
    if "relative_error" in critic:
        shown_tiles += [
            ("Critic's error", percent(critic["relative_error"]), "rms of Q̂ − Q*, of the spread of Q*"),
            ("Best fit of this network", percent(critic.get("best_fit_relative_error")), "the same for ω*: what it could reach"),
        ]
    if best is not None:
        mean = f"{number(returns[best]['mean'])} ± {number(returns[best].get('ci95'), 2)}"
        shown_tiles.append(("Best return", mean, f"{words.POLICIES.get(best, best)}; 95 % interval"))
    return Html(tiles(*shown_tiles) + bullets(_findings(s), class_="findings"))


def _span(span):
    """What an error of V* is to be compared with: how far V* goes, if that is known."""
    return f"; V* spans {number(span, 3)}" if is_number(span) else ""


def _findings(s):
    """What a reader should know, one sentence each."""
    return [
        _said_of(s["reference"]) if "reference" in s else None,
        _verdict(s, "training"),
        _gap(s.get("critic", {})),
        largest_cause(s),
        _verdict(s, "excitation"),
        _verdict(s, "lyapunov"),
        _choice(s),
    ]


def _said_of(reference):
    ended = "converged" if reference.get("converged") else "did NOT converge"
    kind, size = reference.get("error_kind"), number(reference.get("error"), 3)
    if not is_number(reference.get("error")):
        return f"The reference ({reference.get('method')}) {ended}; how far its V* is off is not known."
    off = (
        f"at most {size} over the box, a proven bound"
        if kind == "proven"
        else f"about {size} or less over the box, an estimate, not a proof"
    )
    return f"The reference ({reference.get('method')}) {ended}; its V* is off by {off}."


def _gap(critic):
    now, best = critic.get("relative_error"), critic.get("best_fit_relative_error")
    if not (is_number(now) and is_number(best)):
        return None
    if now <= 2 * best:
        return "The critic is close to the best fit of its network: training has done what it can."
    if best < 1e-10:
        return f"The network can represent Q* exactly; training left an error of {percent(now)} of its spread."
    far = f"The critic is {number(now / best, 2)} times as far from Q* as the best fit of the same network"
    return f"{far}: the error lies in training, not in size."


def largest_cause(s):
    """The largest part of the error budget in a sentence, with what would help."""
    sizes = {k: v for k, v in s.get("budget", {}).get("rms", {}).items() if is_number(v)}
    if not sizes:
        return None
    cause = max(sizes, key=lambda k: sizes[k])
    meaning = words.CAUSES.get(cause, words.words(cause))
    return f"Largest part of the critic's error, rms {number(sizes[cause], 3)}: {meaning}. {words.CURES.get(cause, '')}{_cancelling(s)}"


def _cancelling(s):
    """A warning where the parts are much larger than what they add up to."""
    shares = [abs(v) for v in s["budget"].get("shares", {}).values() if is_number(v)]
    if sum(shares) < CANCELS:
        return ""
    away = s.get("decomposition", {}).get("omega_tilde_norm")
    return f" Parts cancel: so far from ω* (‖ω̃‖ = {number(away, 3)}) their sizes say more about that distance than about single causes."


def _verdict(s, part):
    label, key = VERDICTS[part]
    said = s.get(part, {}).get(key)
    return f"{label}: {said}" if said else None


def ranked(returns) -> list[str]:
    """Policies, best mean first; those without one last."""
    return sorted(returns, key=lambda n: -returns[n]["mean"] if is_number(returns[n].get("mean")) else float("inf"))


def _keeping(s):
    """Returns of the policies whose inputs the plant takes; of all if it takes none's."""
    returns, beyond = s.get("returns", {}), s.get("beyond_bounds", {})
    return {n: r for n, r in returns.items() if not beyond.get(n)} or returns


def _choice(s):
    """Best policies and whether the intervals tell them apart."""
    returns = {n: r for n, r in _keeping(s).items() if is_number(r.get("mean"))}
    if len(returns) < 2:
        return None
    first, second = ranked(returns)[:2]
    gap = returns[first]["mean"] - returns[second]["mean"]
    apart = gap > sum(returns[n].get("ci95") or 0.0 for n in (first, second))
    said = [f"{words.POLICIES.get(n, n)}, {number(returns[n]['mean'])}" for n in (first, second)]
    return f"Best return: {said[0]}; next {said[1]}; their 95 % intervals {'do not overlap' if apart else 'overlap'}."


def _in_short_solve(folder):
    references, failures = folder.summary["references"], folder.summary.get("failures", {})
    spans = {row["method"]: row.get("span_of_V") for row in folder.summary["table"]}
    stated = lambda r: f"stated error of V*, {r.get('error_kind')}" if is_number(r.get("error")) else "no error of V* is stated"
    remark = lambda name, r: f"{stated(r)}{_span(spans.get(name))}"
    made = [(name, f"± {number(r.get('error'), 3)}", remark(name, r)) for name, r in references.items()]
    found = [_said_of(next(iter(references.values()), {})), *_agreement(folder.summary)]
    return Html(tiles(*made) + bullets([*found, *[f"{name} failed: {said}" for name, said in failures.items()]], class_="findings"))


def _agreement(s):
    """A sentence for every reference beside the first: whether they differ by more than both state."""
    first, *rest = s["table"] or [{}]
    for row in rest:
        gap, mine, its = row.get("largest_difference_of_V"), first.get("error"), row.get("error")
        if not (is_number(gap) and is_number(mine) and is_number(its)):
            continue
        within = f"within the {number(mine + its, 3)} that both state as their errors"
        beyond = f"more than the {number(mine + its, 3)} they state: another problem (continuous time, say), or an error too small"
        yield f"V* by {row['method']} differs by at most {number(gap, 3)}, {within if gap <= mine + its else beyond}."


def _reference(folder):
    s = folder.summary
    if "reference" not in s:
        return Html()
    return Html(_statement(s["reference"]) + figures_of(folder, "reference"))


def _statement(reference):
    """What a reference says of itself, and the parts of its error."""
    rows = [(words.words(k), v, words.ERROR_TERMS.get(k, "")) for k, v in reference.get("error_terms", {}).items()]
    rows += [("sum: stated error", reference.get("error"), "bounds |V − V*| over the box")]
    value, residual = reference.get("value_at_x0"), reference.get("residual")
    numbers = [f"V* at the initial states, on average: {number(value)}."] if is_number(value) else []
    numbers += [f"Residual of the optimality equation: {number(residual, 3)}."] if is_number(residual) else []
    return Html(
        paragraph(_said_of(reference), reference.get("message"))
        + table(f"Terms of the error of {reference.get('method')}, in units of V", ("term", "size", "meaning"), rows, sort=False)
        + "".join(paragraph(note) for note in reference.get("notes", []))
        + paragraph(*numbers)
    )


def _references(folder):
    s = folder.summary
    titles = {"method": "method", "error": "stated error", "error_kind": "kind", "seconds": "seconds", "value_at_x0": "V* at x₀"}
    titles |= {"span_of_V": "span of V*", "largest_difference_of_V": "largest |V − V₁|", "largest_difference_of_u": "largest |u − u₁|"}
    keys = list(dict.fromkeys(k for row in s["table"] for k in row))
    rows = [tuple(row.get(k) for k in keys) for row in s["table"]]
    beside = table("References side by side; differences are from the first", [titles.get(k, words.words(k)) for k in keys], rows)
    each = [tag("h3", name) + _statement(reference) for name, reference in s["references"].items()]
    failed = [paragraph(tag("strong", f"{name} failed. "), said) for name, said in s.get("failures", {}).items()]
    return Html(beside + "".join(failed) + "".join(each) + figures_of(folder, "reference"))


def described(caption, values, meanings):
    """A table of a part of the summary: every number of it, the known ones explained."""
    kept = [k for k in dict.fromkeys([*meanings, *values]) if k in values and (is_number(values[k]) or values[k] is None)]
    rows = [(title, values[k], meaning) for k in kept for title, meaning in [meanings.get(k, (words.words(k), ""))]]
    return table(caption, ("quantity", "value", "meaning"), rows) if rows else Html()


def _critic(folder):
    s = folder.summary
    if "critic" not in s:
        return figures_of(folder, "critic")
    meanings = {
        "weights": ("weights p", "of the network"),
        "relative_error": ("relative error", "rms of Q̂ − Q* over the standard deviation of Q*"),
        "best_fit_relative_error": ("of the best fit ω*", "the same for the least-squares fit on the measure (T10)"),
        "td_rms": ("TD error, rms", "T6: on the last replay memory; small does not mean that Q̂ is right"),
    }
    fits = {
        "best_rms": ("best fit, rms", "of all fits"),
        "nearest_rms": ("nearest fit, rms", "of the fit nearest to the trained weights"),
        "best_distance": ("distance of the best fit", "from the trained weights"),
        "nearest_distance": ("distance of the nearest fit", "from the trained weights"),
    }
    parts = s.get("decomposition", {})
    measure = f"Measured {parts['measure']}." if parts.get("measure") else None
    said = "Every TD error is a sum: e = dᵀω̃ − e_Q(z) + γ e_Q(z₊) + e* + R (T12). The table gives the size of each term, in units of Q."
    tables = (described("The trained critic", s["critic"], meanings), described("Fits of ω*", s.get("fits", {}), fits))
    split = described("Terms of the TD error", parts, words.DECOMPOSITION)
    return Html(paragraph(_gap(s["critic"]), measure) + tables[0] + paragraph(said) + split + tables[1] + figures_of(folder, "critic"))


def budget_rows(s):
    """(cause, rms, share, meaning), largest first."""
    sizes, shares = s.get("budget", {}).get("rms", {}), s.get("budget", {}).get("shares", {})
    ordered = sorted(sizes, key=lambda k: -(sizes[k] or 0.0))
    return [(words.words(k), sizes[k], shares.get(k), words.CAUSES.get(k, "")) for k in ordered]


def _budget(folder):
    rows = budget_rows(folder.summary)
    if not rows:
        return figures_of(folder, "budget")
    said = "Q* − Q̂ at every point is exactly the sum of these parts. A share is signed: parts may cancel; all shares add up to 1."
    head = ("part", "rms, units of Q", "share of mean square", "meaning")
    return Html(paragraph(largest_cause(folder.summary), said) + table("Error budget", head, rows) + figures_of(folder, "budget"))


def _convergence(folder):
    s = folder.summary
    said = [v for part in ("lyapunov", "excitation") if (v := _verdict(s, part))]
    tables = described("The convergence theory beside what happened (T17–T20)", s.get("lyapunov", {}), words.LYAPUNOV)
    tables += described("Excitation (T16), at the last snapshot", s.get("excitation", {}), words.EXCITATION)
    verdicts = Html("".join(tag("p", prose(v), class_="verdict") for v in said))
    return Html(verdicts + tables + figures_of(folder, "convergence"))


def policy_table(s):
    """(headings, rows) of all that the summary says of policies, best first; measures this file does not know come too."""
    returns = s.get("returns", {})
    per_policy = {k: v for k, v in s.items() if k != "returns" and isinstance(v, dict) and v and set(v) <= set(returns)}
    inner = [k for k in dict.fromkeys(k for r in returns.values() for k in r) if k not in ("mean", "ci95")]
    measure = lambda k, name: per_policy[k].get(name) if k in per_policy else returns[name].get(k)
    keys = [k for k in [*inner, *per_policy] if all(is_number(v := measure(k, name)) or v is None for name in returns)]
    scaled = lambda k, v: round(100 * v, 10) if k in words.PERCENT and v is not None else v
    head = ["policy", "discounted return", "± 95 %", *[words.MEASURES.get(k, words.words(k)) for k in keys]]
    rows = [
        (words.POLICIES.get(n, n), returns[n].get("mean"), returns[n].get("ci95"), *[scaled(k, measure(k, n)) for k in keys])
        for n in ranked(returns)
    ]
    return head, rows


def _policies(folder):
    s = folder.summary
    if not s.get("returns"):
        return figures_of(folder, "policies")
    given = s.get("asked", {}).get("file", {}).get("comparison", {})
    counts = [f"{given[k]} {word}" for k, word in (("paths", "paths from each initial state"), ("steps", "steps each")) if k in given]
    said = f"All policies met the same noise{': ' if counts else ''}{', '.join(counts)}."
    start = f"Initial states: {shown(given['x0'])}." if "x0" in given else None
    return Html(paragraph(said, start, _choice(s)) + table("Returns of the policies", *policy_table(s)) + figures_of(folder, "policies"))
