"""Direct-current motor."""

import casadi as ca

from plants.task import task
from rlctrl.errors import strict
from rlctrl.plant import Plant, Signal


def _running(p, speed=0.5):
    """Rest at 0.5 rad/s: the current carries the friction, the voltage the current and the back EMF."""
    current = p.friction * speed / p.constant
    return [speed, current], [p.resistance * current + p.constant * speed]


@task(at=_running, dt=0.05, gamma=0.98, Q=(10.0, 0.0), R=(0.01,))
@strict
def dc_motor(
    inertia=0.01,
    friction=0.1,
    constant=0.01,
    resistance=1.0,
    inductance=0.5,
    noise=0.001,
    speed_max=2.0,
    current_max=20.0,
    voltage_max=12.0,
) -> Plant:
    """inertia·ω' = constant·i − friction·ω, inductance·i' = voltage − resistance·i − constant·ω, with load-torque noise.

    `inertia` kg m², `friction` N m s, `constant` N m/A = V s, `resistance` Ω, `inductance` H, `noise` N m per √Hz; bounds in rad/s, A, V.
    Equilibrium: ω = 0.5 rad/s, i = friction·ω/constant, voltage = resistance·i + constant·ω.
    """
    return Plant(
        name="dc_motor",
        states=[Signal("speed", "rad/s", -speed_max, speed_max), Signal("current", "A", -current_max, current_max)],
        inputs=[Signal("voltage", "V", -voltage_max, voltage_max)],
        drift=lambda x, u, p: ca.vertcat(
            (p.constant * x[1] - p.friction * x[0]) / p.inertia,
            (u[0] - p.resistance * x[1] - p.constant * x[0]) / p.inductance,
        ),
        diffusion=lambda x, u, p: ca.vertcat(p.noise / p.inertia, 0),
        params={
            "inertia": inertia,
            "friction": friction,
            "constant": constant,
            "resistance": resistance,
            "inductance": inductance,
            "noise": noise,
        },
        units={"inertia": "kg m²", "friction": "N m s", "constant": "N m/A", "resistance": "Ω", "inductance": "H", "noise": "N m √s"},
        source="Messner & Tilbury, Control Tutorials for MATLAB and Simulink, 1998, DC motor speed",
    )
