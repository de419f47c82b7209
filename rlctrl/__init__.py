"""rlctrl: stochastic plants, optimal Q*, a deep critic, and where the critic's error comes from.

Importing switches JAX to 64-bit floats; nothing else global is touched.
"""

import jax

jax.config.update("jax_enable_x64", True)
