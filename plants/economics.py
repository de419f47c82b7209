"""Decisions over time with closed-form optimal values: car replacement, growth, portfolio (known answers C2, C1, C5)."""

import casadi as ca

from plants.task import task
from rlctrl.errors import strict
from rlctrl.noise import Exponential, Gaussian
from rlctrl.plant import Plant, Signal


@task(
    at=lambda p: ([p.wear], [1.0]),
    dt=None,
    gamma=0.95,
    reward=lambda x, u, p: ca.if_else(u[0] > 0.5, -1e5, -200 * x[0]),
    exit="free",
)
@strict
def car_replacement(wear=2.0, mileage_max=100.0) -> Plant:
    """s₊ = s + wear·w if kept, wear·w if replaced, w exponential with mean 1: Rust's car, or engine, one step a month.

    `wear` is mean and standard deviation of the wear per step, in the unit of the mileage s. With running cost 200 s, price 1e5 and
    γ = 0.95 it is replaced beyond s = 52.86545636058919. Equilibrium, at the mean of w: replaced in every step, s = wear.
    """
    return Plant(
        name="car_replacement",
        states=[Signal("mileage", "1", 0, mileage_max)],
        inputs=[Signal("replace", "1", values=(0, 1))],
        update=lambda x, u, w, p: (1 - u[0]) * x[0] + p.wear * w[0],
        noise=Exponential(1),
        params={"wear": wear},
        units={"wear": "1"},
        source="Rust, Numerical dynamic programming in economics, Handbook of Computational Economics 1, 1996, §5",
    )


@task(
    at=lambda p: ([(p.share * 0.95) ** (1 / (1 - p.share))], [p.share * 0.95]),
    dt=None,
    gamma=0.95,
    reward=lambda x, u, p: ca.log((1 - u[0]) * x[0] ** p.share),
    exit="free",
)
@strict
def growth(share=0.65, noise=0.1, capital_max=1.0) -> Plant:
    """k₊ = saved·k^share·exp(noise·w): Brock & Mirman's growth with full depreciation; the input is the share of output saved.

    `share` is capital's share of output, `noise` the standard deviation of its logarithm per step, both without unit. With reward
    ln((1 − saved) k^share) and γ = 0.95 the optimum saves share·γ, V = c1 + c2 ln k, c2 = share/(1 − share·γ), whatever the noise.
    Equilibrium, at w = 0: saved = 0.95·share, k = saved^(1/(1 − share)).
    """
    return Plant(
        name="growth",
        states=[Signal("capital", "1", 0.01, capital_max)],
        inputs=[Signal("saved", "1", 0.01, 0.99)],
        update=lambda x, u, w, p: u[0] * x[0] ** p.share * ca.exp(p.noise * w[0]),
        noise=Gaussian(1),
        params={"share": share, "noise": noise},
        units={"share": "1", "noise": "1"},
        source="Brock & Mirman, Optimal economic growth and uncertainty: the discounted case, J. Economic Theory 4(3), 1972",
    )


AVERSION, IMPATIENCE = 3.0, 0.05


def _merton(p):
    """Share held and rate spent that are optimal, and the constant of V = K W^(1 − AVERSION)."""
    excess = p.growth - p.interest
    share = excess / (AVERSION * p.noise**2)
    spent = (IMPATIENCE - (1 - AVERSION) * (p.interest + share * excess / 2)) / AVERSION
    return share, spent, spent**-AVERSION / (1 - AVERSION)


def _standing(p):
    share, _, _ = _merton(p)
    return [1.0], [share, p.interest + share * (p.growth - p.interest)]


@task(
    at=_standing,
    dt=0.1,
    gamma=0.9950124791926823,  # exp(−IMPATIENCE·dt)
    reward=lambda x, u, p: (u[1] * x[0]) ** (1 - AVERSION) / (1 - AVERSION),
    exit="absorb",
    exit_value=lambda x, p: _merton(p)[2] * x[0] ** (1 - AVERSION),
)
@strict
def merton(interest=0.02, growth=0.07, noise=0.2, wealth_max=2.0, share_max=1.5, spending_max=0.15) -> Plant:
    """dW = (interest + share·(growth − interest) − spent)·W dt + noise·share·W dB: share of wealth W in the stock, rate spent.

    Time is in years: `interest`, `growth` per year, `noise` per √year, bounds in units of wealth, 1, 1/year. With relative risk aversion 3
    and impatience 0.05 per year the share (growth − interest)/(3 noise²) and a constant rate spent are optimal; the default problem ends
    where the wealth leaves the box, with the exact value there. Equilibrium of the drift: W = 1, that share, all that it earns spent.
    """
    return Plant(
        name="merton",
        states=[Signal("wealth", "1", 0.5, wealth_max)],
        inputs=[Signal("share", "1", 0, share_max), Signal("spent", "1/year", 0.01, spending_max)],
        drift=lambda x, u, p: (p.interest + u[0] * (p.growth - p.interest) - u[1]) * x[0],
        diffusion=lambda x, u, p: p.noise * u[0] * x[0],
        params={"interest": interest, "growth": growth, "noise": noise},
        units={"interest": "1/year", "growth": "1/year", "noise": "1/√year"},
        source="Merton, Lifetime portfolio selection under uncertainty, Review of Economics and Statistics 51(3), 1969",
    )
