"""Continuously stirred tank reactor."""

import casadi as ca

from plants.task import task
from rlctrl.errors import strict
from rlctrl.plant import Plant, Signal


def _rate(temperature, p):
    """Arrhenius, 1/min; below 200 K, where only a failing integrator goes, as at 200 K."""
    return p.frequency * ca.exp(-p.activation / ca.fmax(temperature, 200))


def _cooling(p):
    """Heat transfer per heat capacity, 1/min."""
    return p.transfer / (p.volume * p.density * p.heat_capacity)


def _half_converted(p, temperature=350.0):
    """Rest at 350 K: concentration and coolant follow from the two balances."""
    k, exchange = _rate(temperature, p), p.flow / p.volume
    concentration = exchange * p.feed / (exchange + k)
    heat = p.reaction_heat / (p.density * p.heat_capacity) * k * concentration
    return [concentration, temperature], [temperature - (exchange * (p.feed_temperature - temperature) + heat) / _cooling(p)]


@task(at=_half_converted, dt=0.25, gamma=0.998, Q=(1.0, 1e-3), R=(1e-4,))
@strict
def cstr(
    flow=100.0,
    volume=100.0,
    density=1000.0,
    heat_capacity=0.239,
    reaction_heat=5e4,
    activation=8750.0,
    frequency=7.2e10,
    transfer=5e4,
    feed=1.0,
    feed_temperature=350.0,
    noise=0.2,
    temperature_max=400.0,
    coolant_max=350.0,
) -> Plant:
    """Exothermic first-order reaction A → B cooled by a jacket; states concentration of A (mol/l) and temperature (K), input the coolant's.

    `flow` l/min, `volume` l, `density` g/l, `heat_capacity` J/(g K), `reaction_heat` J/mol (given off), `activation` K (E/R), `frequency`
    1/min, `transfer` J/(min K), `feed` mol/l, `feed_temperature` K, `noise` K per √s on the temperature; bounds in K. Rates per minute are
    divided by 60: time is in seconds. Equilibrium: 350 K, half converted (0.5 mol/l), coolant at 300 K; it is unstable.
    """

    def drift(x, u, p):
        k, exchange = _rate(x[1], p), p.flow / p.volume
        heat = p.reaction_heat / (p.density * p.heat_capacity) * k * x[0]
        balance = ca.vertcat(
            exchange * (p.feed - x[0]) - k * x[0], exchange * (p.feed_temperature - x[1]) + heat + _cooling(p) * (u[0] - x[1])
        )
        return balance / 60

    return Plant(
        name="cstr",
        states=[Signal("concentration", "mol/l", 0, 1), Signal("temperature", "K", 300, temperature_max)],
        inputs=[Signal("coolant", "K", 250, coolant_max)],
        drift=drift,
        diffusion=lambda x, u, p: ca.vertcat(0, p.noise),
        params={
            "flow": flow,
            "volume": volume,
            "density": density,
            "heat_capacity": heat_capacity,
            "reaction_heat": reaction_heat,
            "activation": activation,
            "frequency": frequency,
            "transfer": transfer,
            "feed": feed,
            "feed_temperature": feed_temperature,
            "noise": noise,
        },
        units={
            "flow": "l/min",
            "volume": "l",
            "density": "g/l",
            "heat_capacity": "J/(g K)",
            "reaction_heat": "J/mol",
            "activation": "K",
            "frequency": "1/min",
            "transfer": "J/(min K)",
            "feed": "mol/l",
            "feed_temperature": "K",
            "noise": "K/√s",
        },
        source="Henson & Seborg (eds.), Nonlinear Process Control, Prentice Hall, 1997, ch. 1",
    )
