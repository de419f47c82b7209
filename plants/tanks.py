"""Coupled tanks."""

import casadi as ca

from plants.task import task
from rlctrl.errors import strict
from rlctrl.plant import Plant, Signal


def _held(p, level=0.4):
    """Rest with the second level at 0.4: h1 and the pump follow."""
    first = (level - p.swell * level**2) / p.inflow
    return [first, level], [first / p.pump]


@task(at=_held, dt=1.0, gamma=0.99, Q=(0.1, 1.0), R=(0.01,))
@strict
def two_tank(time1=18.4, time2=24.4, pump=1.3, inflow=1.0, swell=0.2, noise=0.01, level_max=1.0, pump_max=1.0) -> Plant:
    """time1·h1' = −h1 + pump·P, time2·h2' = −h2 + inflow·h1 + swell·h2²: two tanks in a row, a pump into the first.

    `time1`, `time2` s; levels, pump signal P and gains without unit; `noise` per √s on both levels.
    Equilibrium: h2 = 0.4, h1 = (h2 − swell·h2²)/inflow, P = h1/pump.
    """
    return Plant(
        name="two_tank",
        states=[Signal("level1", "1", 0, level_max), Signal("level2", "1", 0, level_max)],
        inputs=[Signal("pump_signal", "1", 0, pump_max)],
        drift=lambda x, u, p: ca.vertcat((-x[0] + p.pump * u[0]) / p.time1, (-x[1] + p.inflow * x[0] + p.swell * x[1] ** 2) / p.time2),
        diffusion=lambda x, u, p: p.noise * ca.SX.eye(2),
        params={"time1": time1, "time2": time2, "pump": pump, "inflow": inflow, "swell": swell, "noise": noise},
        units={"time1": "s", "time2": "s", "pump": "1", "inflow": "1", "swell": "1", "noise": "1/√s"},
        source="regelum-control, class TwoTank, github.com/osinenkop/regelum-control, 2023",
    )


def _flow(hole, level, p):
    """Torricelli, cm³/s; a dry tank keeps a slope one can differentiate."""
    return hole * ca.sqrt(2 * p.gravity * ca.fmax(level, 1e-6))


def _both_pumps(p, volts=3.0):
    """Rest with both pumps at 3 V: what enters a tank leaves it."""
    one, two = p.pump1 * volts, p.pump2 * volts
    upper = [((1 - p.split2) * two / p.hole1) ** 2, ((1 - p.split1) * one / p.hole2) ** 2]
    lower = [((p.split1 * one + (1 - p.split2) * two) / p.hole1) ** 2, ((p.split2 * two + (1 - p.split1) * one) / p.hole2) ** 2]
    return [h / (2 * p.gravity) for h in (*lower, *upper)], [volts, volts]


@task(at=_both_pumps, dt=5.0, gamma=0.99, Q=(1.0, 1.0, 0.0, 0.0), R=(0.1, 0.1))
@strict
def quadruple_tank(
    area1=28.0,
    area2=32.0,
    hole1=0.071,
    hole2=0.057,
    pump1=3.33,
    pump2=3.35,
    split1=0.70,
    split2=0.60,
    gravity=981.0,
    noise=0.05,
    level_max=20.0,
    voltage_max=6.0,
) -> Plant:
    """Johansson's four tanks: pump 1 fills tanks 1 and 4 (shares split1, 1 − split1), pump 2 tanks 2 and 3; 3 drains into 1, 4 into 2.

    Tanks 1 and 3 have `area1` cm² and outlet `hole1` cm², tanks 2 and 4 `area2`, `hole2`; `pump1`, `pump2` cm³/(V s); `gravity` cm/s²;
    `noise` cm per √s on every level; bounds in cm and V. split1 + split2 > 1 is minimum phase; Johansson's other setting is pump1 = 3.14,
    pump2 = 3.29, split1 = 0.43, split2 = 0.34. Equilibrium: both pumps at 3 V, levels from the balance (12.3, 12.8, 1.6, 1.4 cm).
    """

    def drift(x, u, p):
        out = [_flow(hole, x[k], p) for k, hole in enumerate((p.hole1, p.hole2, p.hole1, p.hole2))]
        return ca.vertcat(
            (-out[0] + out[2] + p.split1 * p.pump1 * u[0]) / p.area1,
            (-out[1] + out[3] + p.split2 * p.pump2 * u[1]) / p.area2,
            (-out[2] + (1 - p.split2) * p.pump2 * u[1]) / p.area1,
            (-out[3] + (1 - p.split1) * p.pump1 * u[0]) / p.area2,
        )

    return Plant(
        name="quadruple_tank",
        states=[Signal(f"level{k}", "cm", 0, level_max) for k in (1, 2, 3, 4)],
        inputs=[Signal(f"pump_voltage{k}", "V", 0, voltage_max) for k in (1, 2)],
        drift=drift,
        diffusion=lambda x, u, p: p.noise * ca.SX.eye(4),
        params={
            "area1": area1,
            "area2": area2,
            "hole1": hole1,
            "hole2": hole2,
            "pump1": pump1,
            "pump2": pump2,
            "split1": split1,
            "split2": split2,
            "gravity": gravity,
            "noise": noise,
        },
        units={
            "area1": "cm²",
            "area2": "cm²",
            "hole1": "cm²",
            "hole2": "cm²",
            "pump1": "cm³/(V s)",
            "pump2": "cm³/(V s)",
            "split1": "1",
            "split2": "1",
            "gravity": "cm/s²",
            "noise": "cm/√s",
        },
        source="Johansson, The quadruple-tank process, IEEE Trans. Control Systems Technology 8(3), 2000, §II",
    )
