"""Tables for LaTeX (booktabs) and a BibTeX entry, from the same numbers as the page."""

import itertools
import math
import textwrap
import unicodedata

from rlctrl.report.html import SUBSCRIPT, is_number
from rlctrl.report.sections import budget_rows, policy_table

SPECIAL = {
    "\\": r"\textbackslash{}", "{": r"\textbraceleft{}", "}": r"\textbraceright{}", "$": r"\$", "&": r"\&", "#": r"\#",
    "_": r"\_", "%": r"\%", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': "''", "§": r"\S{}",
}  # fmt: skip
SIGNS = {
    "γ": r"\gamma", "ω": r"\omega", "π": r"\pi", "λ": r"\lambda", "ε": r"\varepsilon", "κ": r"\kappa", "θ": r"\theta", "∇": r"\nabla",
    "±": r"\pm", "−": "-", "‖": r"\|", "₊": "_+", "₀": "_0", "₁": "_1", "≤": r"\le", "≥": r"\ge", "→": r"\to", "∞": r"\infty",
    "·": r"\cdot", "²": "^2", "*": r"^\ast", "∂": r"\partial", "′": "'",
}  # fmt: skip
LETTERS = {"e": "e", "e*": "e^*", "r": "r", "λ": r"\lambda"}
ACCENTS = {"\N{COMBINING TILDE}": r"\tilde", "\N{COMBINING CIRCUMFLEX ACCENT}": r"\hat"}

WIDEST = 5  # policies in a table
SMALL = r"\footnotesize\setlength{\tabcolsep}{2.5pt}"  # five columns of numbers fit the narrowest common page


def latex(text) -> str:
    """Any text for LaTeX: specials escaped, signs as mathematics, symbols it may not know by their names in brackets."""
    plain, parts = SUBSCRIPT.split(str(text)), []  # text, letter, subscript, text, …
    for k in range(0, len(plain), 3):
        parts += _parts(plain[k])
        parts += [(True, f"{LETTERS[plain[k + 1]]}_{{\\mathrm{{{plain[k + 2]}}}}}")] if k + 2 < len(plain) else []
    grouped = ((formula, "".join(p for _, p in run)) for formula, run in itertools.groupby(parts, key=lambda part: part[0]))
    return "".join(f"${run}$" if formula else run for formula, run in grouped)


def _parts(text):
    """[(mathematics?, LaTeX)] of every sign."""
    parts: list[tuple[bool, str]] = []
    for sign in unicodedata.normalize("NFC", text):
        if sign in ACCENTS and parts:
            parts[-1] = True, f"{ACCENTS[sign]}{{{parts[-1][1]}}}"
        else:
            parts.append((sign in SIGNS, SIGNS[sign] if sign in SIGNS else _plain(sign)))
    return parts


def _plain(sign):
    if sign in SPECIAL or sign.isspace():
        return SPECIAL.get(sign, " ")
    known = " " < sign < "\x7f" or (unicodedata.category(sign)[0] == "L" and sign < "\u0250")
    return sign if known else f"[{unicodedata.name(sign, 'sign').lower()}]"


def latex_number(value, digits=4) -> str:
    """A number in mathematics; a dash for none."""
    if not is_number(value) or not math.isfinite(value):
        return "--"
    factor, _, exponent = f"{value:.{digits - 1}e}".partition("e")
    if value == 0 or -4 <= int(exponent) < 6:
        return f"${float(f'{value:.{digits}g}'):.10g}$"
    return rf"${float(factor):g}\cdot 10^{{{int(exponent)}}}$"


def tabular(caption, label, head, rows) -> str:
    """A floating table; columns of numbers to the right."""
    right = [all(is_number(row[k]) or row[k] is None for row in rows) for k in range(len(head))]
    cells = lambda row: [latex_number(v) if r else latex(v) for r, v in zip(right, row, strict=True)]
    stacked = [_stacked(title, "r" if r else "l") for title, r in zip(head, right, strict=True)]
    lines = [" & ".join(stacked), *(" & ".join(cells(row)) for row in rows)]
    body = "\n".join([r"\toprule", rf"{lines[0]} \\", r"\midrule", *[rf"{line} \\" for line in lines[1:]], r"\bottomrule"])
    columns = "".join("r" if r else "l" for r in right)
    top = "\n".join([r"\begin{table}", r"\centering", SMALL, rf"\caption{{{latex(caption)}}}", rf"\label{{tab:{label}}}", ""])
    return f"{top}\\begin{{tabular}}{{{columns}}}\n{body}\n\\end{{tabular}}\n\\end{{table}}\n"


def _stacked(title, side) -> str:
    """A heading in lines of about ten signs, so that it is no wider than the numbers below."""
    lines = r" \\ ".join(latex(line) for line in textwrap.wrap(str(title), 10, break_long_words=False))
    return rf"\shortstack[{side}]{{{lines}}}" if r"\\" in lines else lines


def tables(folder) -> str:
    """All tables of `tables.tex`: headline, error budget and returns of a run, or the references of a solve."""
    s = folder.summary
    asked = f"{s['name']} (plant {s['plant']}, seed {s.get('seed')})"
    if folder.solved:
        keys = ("method", "error", "error_kind", "value_at_x0", "largest_difference_of_V", "seconds")
        head = ("method", "stated error", "kind", "V* at x₀", "largest difference of V*", "seconds")
        found = [tabular(f"References of {asked}", "references", head, [tuple(row.get(k) for k in keys) for row in s["table"]])]
    else:
        head, rows = policy_table(s)
        budget = [(cause, size, share) for cause, size, share, _ in budget_rows(s)]
        found = [tabular(f"Headline numbers of {asked}", "headline", ("quantity", "value"), _headline(s))]
        found += [tabular("Error budget: parts of Q* − Q̂", "budget", ("part", "rms", "share of mean square"), budget)] if budget else []
        found += [_returns(head, rows[k : k + WIDEST], k // WIDEST) for k in range(0, len(rows), WIDEST)]
    return "% needs \\usepackage{booktabs}\n" + "\n".join(found)


def _returns(head, rows, part):
    """A column a policy: their measures side by side are wider than a page."""
    names, *measures = zip(*rows, strict=True)
    lines = [(name, *values) for name, values in zip(head[1:], measures, strict=True)]
    return tabular("Discounted returns with 95 % intervals", f"returns{part + 1 if part else ''}", (head[0], *names), lines)


def _headline(s):
    critic, parts = s.get("critic", {}), s.get("decomposition", {})
    rows = [("stated error of V* (" + str(s["reference"].get("error_kind")) + ")", s["reference"].get("error"))]
    rows += [("relative error of the critic", critic.get("relative_error")), ("the same, best fit", critic.get("best_fit_relative_error"))]
    names = {"e_q_rms": "e_Q, rms", "e_q_sup": "e_Q, largest", "e_star_rms": "e*, rms", "e_star_noise_rms": "e*_noise, rms"}
    names |= {"e_star_policy_rms": "e*_policy, rms", "remainder_rms": "R, rms", "omega_tilde_norm": "‖ω̃‖"}
    return rows + [(title, parts.get(k)) for k, title in names.items() if k in parts]


def bibliography(folder) -> str:
    """`cite.bib`: this version of the package, the year of the run, the source of the plant as a note."""
    s = folder.summary
    version, source = s["versions"].get("rlctrl", ""), s.get("asked", {}).get("source")
    year = (s.get("finished") or "")[:4]
    fields = {
        "key": "rlctrl",  # styles sort what has no author by it
        "title": "{rlctrl}: stochastic plants in {CasADi}, the optimal {Q}* one can trust, and where a critic's error comes from".replace(
            "*", "$^*$"
        ),
        "version": latex(version),
        "year": year if year.isdigit() else None,
        "note": f"Plant {latex(s['plant'])}" + (f": {latex(source)}" if source else ""),
    }
    return "@misc{rlctrl,\n" + "".join(f"  {k} = {{{v}}},\n" for k, v in fields.items() if v) + "}\n"
