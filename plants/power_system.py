"""Load-frequency control of one generator."""

import casadi as ca

from plants.task import origin, task
from rlctrl.errors import strict
from rlctrl.plant import Plant, Signal


@task(at=origin(4), dt=0.02, gamma=1.0, Q=(1.0, 1.0, 1.0, 1.0), R=(1.0,))
@strict
def power_system(
    load_rate=0.0665,
    load_gain=11.5,
    turbine_rate=2.5,
    governor_rate=13.736,
    droop_rate=9.5,
    integral_gain=0.6,
    noise=0.0,
    frequency_max=2.0,
    power_max=2.0,
    input_max=5.0,
) -> Plant:
    """Deviations of frequency f, generator output P, valve V and integral I of f from their set points, input on the governor.

    f' = −load_rate·f + load_gain·P, P' = turbine_rate·(V − P), V' = −droop_rate·f − governor_rate·(V + I − u), I' = integral_gain·f.
    Rates in 1/s, `load_gain` Hz/s (power per unit), `droop_rate` 1/(Hz s), `integral_gain` 1/(Hz s); `noise` Hz per √s on the frequency
    (load changes); bounds in Hz and per unit. The numbers are those of the simulated plant of §4 of the source; its nominal model has
    load_gain 8, turbine_rate 3.663, droop_rate 6.86. Equilibrium: the origin, u = 0.
    """
    return Plant(
        name="power_system",
        states=[
            Signal("frequency", "Hz", -frequency_max, frequency_max),
            Signal("power", "1", -power_max, power_max),
            Signal("valve", "1", -power_max, power_max),
            Signal("integral", "1", -power_max, power_max),
        ],
        inputs=[Signal("governor", "1", -input_max, input_max)],
        drift=lambda x, u, p: ca.vertcat(
            -p.load_rate * x[0] + p.load_gain * x[1],
            p.turbine_rate * (x[2] - x[1]),
            -p.droop_rate * x[0] - p.governor_rate * (x[2] + x[3] - u[0]),
            p.integral_gain * x[0],
        ),
        diffusion=lambda x, u, p: ca.vertcat(p.noise, 0, 0, 0),
        params={
            "load_rate": load_rate,
            "load_gain": load_gain,
            "turbine_rate": turbine_rate,
            "governor_rate": governor_rate,
            "droop_rate": droop_rate,
            "integral_gain": integral_gain,
            "noise": noise,
        },
        units={
            "load_rate": "1/s",
            "load_gain": "Hz/s",
            "turbine_rate": "1/s",
            "governor_rate": "1/s",
            "droop_rate": "1/(Hz s)",
            "integral_gain": "1/(Hz s)",
            "noise": "Hz/√s",
        },
        source="Vrabie, Pastravanu, Abu-Khalaf & Lewis, Adaptive optimal control for continuous-time linear systems based on policy "
        "iteration, Automatica 45(2), 2009, §4; Wang, Zhou & Wen, IEE Proc. C 140(1), 1993",
    )
