"""Grids, the maximum over the inputs, and files: against polynomials, SciPy, closed forms and bit-for-bit round trips."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.interpolate import RegularGridInterpolator, make_interp_spline

import plants
import rlctrl as rc
from rlctrl.axis import make_axis
from rlctrl.grid import Grid, box_grid
from rlctrl.maximise import input_set, maximise
from rlctrl.storage import load_record, save_record

RNG = np.random.default_rng
orders = pytest.mark.parametrize("order", [1, 3, 5])


def uneven(count, low=-1.0, high=2.0, seed=0):
    """Node positions with spacings that differ by up to a factor of three."""
    steps = RNG(seed).uniform(1, 3, count - 1)
    return low + (high - low) * np.concatenate([[0], np.cumsum(steps)]) / steps.sum()


def interpolate(grid, values, x):
    return np.asarray(grid.evaluate(grid.fit(jnp.asarray(values)), jnp.asarray(x)))


def uneven_grid(order, dimensions):
    return Grid(tuple(make_axis(uneven(order + 3 + k, seed=k), order) for k in range(dimensions)))


# --- exactness ----------------------------------------------------------------------------------------------------------------------------


def polynomial(degree, dimensions, seed=0):
    """A random polynomial of that degree in each variable."""
    coefficients = RNG(seed).normal(size=(degree + 1,) * dimensions)

    def value(x):
        powers = x[:, None, :] ** np.arange(degree + 1)[:, None]
        total = coefficients
        out = np.empty(len(x))
        for k, row in enumerate(powers):
            total = coefficients
            for d in range(dimensions):
                total = np.tensordot(row[:, d], total, axes=(0, 0))
            out[k] = total
        return out

    return value


@orders
@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_polynomials_of_the_order_are_exact_inside_and_beyond_the_box_and_the_next_degree_is_not(order, dimensions):
    grid = uneven_grid(order, dimensions)
    x = RNG(1).uniform(-1.3, 2.3, (100, dimensions))
    assert np.any((x < -1) | (x > 2))
    f = polynomial(order, dimensions)
    np.testing.assert_allclose(interpolate(grid, f(grid.points()), x), f(x), rtol=1e-11, atol=1e-11 * np.abs(f(x)).max())
    beyond = polynomial(order + 1, dimensions)
    error = np.abs(interpolate(grid, beyond(grid.points()), x) - beyond(x)).max()
    assert error > 1e-4 * np.abs(beyond(x)).max()


@orders
def test_node_values_are_reproduced(order):
    grid = Grid((make_axis(uneven(12), order), make_axis(np.pi * np.arange(10) / 5, order, period=2 * np.pi)))
    values = RNG(0).normal(size=120)
    np.testing.assert_allclose(interpolate(grid, values, grid.points()), values, atol=1e-13 * np.abs(values).max())


@orders
def test_weights_of_the_stencil_sum_to_one_and_reproduce_evaluate(order):
    grid = box_grid([-1, 0, -np.pi], [1, 2, np.pi], (8, 9, 10), (False, False, True), order)
    coefficients = grid.fit(jnp.asarray(RNG(0).normal(size=720)))
    x = RNG(1).uniform([-1.2, -0.2, -5], [1.2, 2.2, 5], (3, 7, 3))
    index, weight = grid.stencil(jnp.asarray(x))
    assert index.shape == weight.shape == (3, 7, (order + 1) ** 3)
    assert index.min() >= 0
    assert index.max() < 720
    np.testing.assert_allclose(weight.sum(-1), 1, rtol=1e-12)
    np.testing.assert_allclose((weight * coefficients[index]).sum(-1), grid.evaluate(coefficients, x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("period", [None, 1.3])
def test_compiled_code_finds_the_intervals_of_uneven_nodes(period):
    nodes = np.sort(np.concatenate([RNG(0).uniform(0, 1, 40), 0.5 + 1e-9 * np.arange(5)]))
    axis = make_axis(nodes, 1, period)
    x = np.concatenate([RNG(1).uniform(-0.5, 2, 5000), nodes])
    compiled = np.asarray(jax.jit(lambda axis, x: axis.place(x))(axis.padded(60), x))
    np.testing.assert_array_equal(np.floor(compiled), np.floor(axis.place(x)))
    np.testing.assert_allclose(compiled, axis.place(x), rtol=1e-12, atol=1e-6)


def test_order_one_is_monotone_inside_the_box():
    grid = box_grid([-1, -1], [1, 1], (6, 7), (False, True))
    _, weight = grid.stencil(jnp.asarray(RNG(0).uniform(-1, 1, (500, 2))))
    assert weight.min() >= -1e-15


def test_trailing_axes_of_the_coefficients_are_carried_along():
    grid = uneven_grid(3, 2)
    tables = RNG(0).normal(size=(42, 2, 3))
    x = RNG(1).uniform(-1, 2, (5, 2))
    got = grid.evaluate(jnp.asarray(tables), x)
    assert got.shape == (5, 2, 3)
    for i, j in itertools.product(range(2), range(3)):
        np.testing.assert_allclose(got[:, i, j], grid.evaluate(jnp.asarray(tables[:, i, j]), x), rtol=1e-14, atol=1e-15)


# --- order of convergence -----------------------------------------------------------------------------------------------------------------

LEAST = {1: 1.9, 3: 3.8, 5: 5.7}


def smooth(x):
    return np.exp(np.sin(x[:, 0])) * np.cos(x[:, 1] + 0.3)


def graded(count):
    """Uneven nodes on [-1, 1] that refine regularly."""
    s = np.linspace(-1, 1, count)
    return s + 0.25 * np.sin(np.pi * s)


def observed(make, sample, sizes):
    """Slopes of the error over successive halvings of the spacing."""
    errors = []
    for size in sizes:
        grid = make(size)
        errors.append(np.abs(interpolate(grid, smooth(grid.points()), sample(size)) - smooth(sample(size))).max())
    return np.log2(np.divide(errors[:-1], errors[1:]))


INSIDE = RNG(0).uniform(-1, 1, (2000, 2))


@orders
@pytest.mark.parametrize("spacing", ["even", "graded", "periodic"])
def test_smooth_function_converges_at_the_order_of_the_scheme(order, spacing):
    makes = {
        "even": lambda n: box_grid([-1, -1], [1, 1], (n, n), (False, False), order),
        "graded": lambda n: Grid((make_axis(graded(n), order), make_axis(graded(n), order))),
        "periodic": lambda n: box_grid([-np.pi, -1], [np.pi, 1], (2 * n - 2, n), (True, False), order),
    }
    stretch = [np.pi, 1] if spacing == "periodic" else [1, 1]
    sizes = (17, 33, 65) if order < 5 else (13, 25, 49)
    assert np.all(observed(makes[spacing], lambda _: INSIDE * stretch, sizes) >= LEAST[order])


@orders
def test_extrapolation_by_half_a_cell_converges_at_the_order_of_the_scheme(order):
    t = RNG(0).uniform(-1, 1, (300, 1))
    beyond = lambda n: np.concatenate([np.concatenate([0 * t + s * (1 + 1 / (n - 1)), t], 1) for s in (-1, 1)])
    make = lambda n: box_grid([-1, -1], [1, 1], (n, n), (False, False), order)
    assert np.all(observed(make, beyond, (17, 33, 65)) >= LEAST[order] - 0.3)


# --- circles ------------------------------------------------------------------------------------------------------------------------------


@orders
def test_periodic_axis_closes(order):
    grid = box_grid([-np.pi], [np.pi], (12,), (True,), order)
    coefficients = grid.fit(jnp.asarray(RNG(0).normal(size=12)))
    at = lambda x: np.asarray(grid.evaluate(coefficients, jnp.asarray(x)[..., None]))
    np.testing.assert_allclose(at([np.pi]), at([-np.pi]), rtol=1e-13)
    x = RNG(1).uniform(-np.pi, np.pi, 50)
    for turns in (-3, -1, 1, 2):
        np.testing.assert_allclose(at(x + 2 * np.pi * turns), at(x), atol=1e-12)
    slope = jax.vmap(jax.grad(lambda x: grid.evaluate(coefficients, x[None])))
    ends = jnp.array([-np.pi + 1e-9, np.pi - 1e-9])
    jump = np.ptp(slope(ends))
    assert jump < 1e-6 if order > 1 else jump > 0.1


def test_shifting_the_values_round_a_circle_shifts_the_interpolant():
    grid = box_grid([0.0], [1.0], (9,), (True,), 5)
    values, x = RNG(0).normal(size=9), RNG(1).uniform(0, 1, (40, 1))
    np.testing.assert_allclose(interpolate(grid, np.roll(values, 2), x + 2 / 9), interpolate(grid, values, x), atol=1e-12)


# --- SciPy --------------------------------------------------------------------------------------------------------------------------------


def test_order_one_equals_scipy_in_three_dimensions():
    grid = uneven_grid(1, 3)
    values, x = RNG(0).normal(size=grid.shape), RNG(1).uniform(-1.4, 2.4, (300, 3))
    reference = RegularGridInterpolator([a.nodes for a in grid.axes], values, bounds_error=False, fill_value=None)
    np.testing.assert_allclose(interpolate(grid, values.ravel(), x), reference(x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("order", [3, 5])
@pytest.mark.parametrize("count", [7, 8, 30])
def test_splines_and_their_slopes_equal_scipy_inside_and_beyond_the_box(order, count):
    nodes = uneven(count)
    grid = Grid((make_axis(nodes, order),))
    values, x = RNG(0).normal(size=count), RNG(1).uniform(-1.1, 2.1, 200)
    reference = make_interp_spline(nodes, values, k=order)
    size = np.abs(reference(x)).max()
    np.testing.assert_allclose(interpolate(grid, values, x[:, None]), reference(x), atol=1e-11 * size)
    coefficients = grid.fit(jnp.asarray(values))
    got = jax.vmap(jax.grad(lambda x: grid.evaluate(coefficients, x[None])))(jnp.asarray(x))
    want = reference.derivative()(x)
    np.testing.assert_allclose(got, want, atol=1e-10 * np.abs(want).max())


@pytest.mark.parametrize("order", [3, 5])
@pytest.mark.parametrize("count", [7, 8, 21])
def test_periodic_splines_equal_scipy_on_uneven_nodes(order, count):
    closed = uneven(count + 1, 0.0, 3.0)
    values, x = RNG(0).normal(size=count), RNG(1).uniform(0, 3, 200)
    reference = make_interp_spline(closed, np.append(values, values[0]), k=order, bc_type="periodic")
    got = interpolate(Grid((make_axis(closed[:-1], order, period=3.0),)), values, x[:, None])
    np.testing.assert_allclose(got, reference(x), atol=1e-11 * np.abs(reference(x)).max())


# --- geometry and bad input ---------------------------------------------------------------------------------------------------------------


def test_points_run_with_the_last_axis_fastest_and_match_the_shape():
    grid = box_grid([0, -1], [1, 1], (3, 4), (False, True))
    assert grid.shape == (3, 4)
    want = list(itertools.product([0, 0.5, 1], [-1, -0.5, 0, 0.5]))
    np.testing.assert_allclose(grid.points(), want, atol=1e-15)


def test_margin_adds_whole_cells_beyond_the_axes_that_do_not_turn():
    grid = box_grid([0, -1], [1, 1], (11, 8), (False, True), order=3, margin=0.15)
    np.testing.assert_allclose(grid.axes[0].nodes, np.arange(-2, 13) / 10, atol=1e-15)
    assert grid.axes[1].size == 8


@pytest.mark.parametrize(
    ("arguments", "argument"),
    [
        ({"nodes": [0, 1, 2, 3], "order": 2}, "order"),
        ({"nodes": [0, 2, 1, 3]}, "axis"),
        ({"nodes": [0, 1, 1, 3]}, "axis"),
        ({"nodes": [[0, 1], [2, 3]]}, "axis"),
        ({"nodes": [0, np.nan, 2, 3]}, "axis"),
        ({"nodes": [0, 1]}, "shape"),
        ({"nodes": np.arange(6), "order": 5}, "shape"),
        ({"nodes": [0, 1, 2, 3], "period": 2.5}, "period"),
    ],
)
def test_bad_axis_is_refused(arguments, argument):
    with pytest.raises(rc.InputError, match=rf"`{argument}` .+; got .+\. \S"):
        make_axis(**arguments)


# --- maximum over the inputs --------------------------------------------------------------------------------------------------------------


def signals(m, **options):
    return [rc.Signal(f"u{k}", "1", **({"low": -1.0, "high": 3.0} | options)) for k in range(m)]


def concave(peaks, weights):
    """q(u) of a batch: −(u−c)ᵀH(u−c), one row per problem."""

    def q(u):
        gap = jnp.broadcast_to(u, (len(peaks), *u.shape[-2:])) - peaks[:, None, :]
        return -jnp.einsum("bai,bij,baj->ba", gap, weights, gap)

    return q


def peaks_inside(m, count, clearance):
    """Random maxima at least `clearance` candidate spacings from the bounds."""
    room = 4 * clearance / (count - 1)
    return RNG(m).uniform(-1 + room, 3 - room, (500, m))


def worst(peaks, weights, count):
    """Largest error of the maximiser, relative to the width of the box, and the values with their claim."""
    u, v = maximise(concave(peaks, weights), input_set(signals(peaks.shape[1]), count))
    np.testing.assert_allclose(v, concave(peaks, weights)(np.asarray(u)[:, None, :])[:, 0], rtol=1e-12, atol=1e-15)
    return np.abs(np.asarray(u) - np.clip(peaks, -1, 3)).max() / 4


@pytest.mark.parametrize("count", [3, 5, 21])
@pytest.mark.parametrize("m", [1, 2])
def test_maximum_of_separable_quadratics_is_exact_inside_the_box(m, count):
    weights = RNG(0).uniform(0.2, 3, (500, m))[:, :, None] * np.eye(m)
    assert worst(peaks_inside(m, count, 0.5 + 1e-3), weights, count) < 1e-12


@pytest.mark.parametrize("count", [5, 21])
def test_maximum_of_coupled_quadratics_is_found_to_a_millionth_of_the_box(count):
    """Curvatures that differ by up to a factor of 20 in a rotated frame."""
    angle, ratio = RNG(0).uniform(0, np.pi, 500), RNG(1).uniform(0.05, 1, 500)
    frame = np.moveaxis([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]], -1, 0)
    weights = frame @ (np.stack([np.ones(500), ratio], -1)[:, :, None] * np.swapaxes(frame, 1, 2))
    assert worst(peaks_inside(2, count, 1.5), weights, count) < 1e-6


@pytest.mark.parametrize("m", [1, 2])
def test_maximum_on_the_bounds_is_exact(m):
    rng = RNG(0)
    peaks = np.where(rng.random((200, m)) < 0.5, rng.uniform(-3, -1.01, (200, m)), rng.uniform(3.01, 5, (200, m)))
    assert worst(peaks, rng.uniform(0.2, 3, (200, m))[:, :, None] * np.eye(m), 5) == 0


@pytest.mark.parametrize("count", [5, 21])
@pytest.mark.parametrize("m", [1, 2])
def test_maximum_near_the_bounds_is_found_to_a_millionth_of_the_box(m, count):
    rng = RNG(0)
    peaks = np.where(rng.random((500, m)) < 0.5, -1, 3) * (1 - rng.uniform(0, 0.5, (500, m)) / (count - 1))
    assert worst(peaks, rng.uniform(0.2, 3, (500, m))[:, :, None] * np.eye(m), count) < 1e-6


def loss(q, best, count, rounds=6):
    """What the maximiser misses of the maxima `best` of a batch of functions q of one input, at most."""
    return float(np.max(best - np.asarray(maximise(q, input_set(signals(1), count), rounds=rounds)[1])))


@pytest.mark.parametrize("count", [5, 11, 21])
def test_maxima_of_smooth_functions_that_are_no_parabolas_are_found_to_rounding(count):
    peaks, rates = RNG(0).uniform(-0.9, 2.9, (5000, 1)), RNG(1).uniform(-2, 2, (5000, 1))
    flat, steep = np.zeros(5000), np.ones(5000)
    assert loss(lambda u: rates * (u[..., 0] - peaks) - jnp.exp(rates * (u[..., 0] - peaks)), -steep, count) < 1e-12
    assert loss(lambda u: -jnp.log(jnp.cosh(3 * rates * (u[..., 0] - peaks))), flat, count) < 1e-12
    assert loss(lambda u: 1e-3 * jnp.cos(u[..., 0] - peaks) + 1e3, 1e3 + 1e-3 * steep, count) < 1e-12


@pytest.mark.parametrize(("rounds", "both", "apart"), [(6, 0.005, 0.1), (9, 1e-4, 0.02)])
@pytest.mark.parametrize("count", [5, 11, 21])
def test_maxima_at_kinks_are_found_to_parts_of_the_spacing_of_candidates(count, rounds, both, apart):
    """On a kink a parabola may happen to fit, and the step shrinks too early: it must grow again."""
    peaks, slopes, flat = RNG(0).uniform(-1, 3, (5000, 1)), RNG(1).uniform(0.2, 5, (5000, 2)), np.zeros(5000)
    spacing = 4 / (count - 1)
    assert loss(lambda u: -jnp.abs(u[..., 0] - peaks), flat, count, rounds) < both * spacing
    sides = lambda u: jnp.where(u[..., 0] < peaks, slopes[:, :1], -slopes[:, 1:]) * (u[..., 0] - peaks)
    assert loss(sides, flat, count, rounds) < apart * spacing


def evaluations(q, inputs):
    """(calls of q after that for the candidates, what the maximiser found)."""
    seen = []

    def counted(u):
        jax.debug.callback(lambda: seen.append(u.shape), ordered=True)
        return q(u)

    found = jax.block_until_ready(maximise(counted, inputs))
    jax.effects_barrier()
    return len(seen) - 1, found


def test_search_ends_when_all_maxima_are_found():
    """Three evaluations a round: one round for a parabola, six where a kink is."""
    peaks, inputs = RNG(0).uniform(-0.5, 2.5, (300, 1)), input_set(signals(1), 11)
    quick, (u, _) = evaluations(lambda u: -((u[..., 0] - peaks) ** 2), inputs)
    assert quick == 3
    np.testing.assert_allclose(u, peaks, atol=1e-12)
    smooth, _ = evaluations(lambda u: jnp.cos(u[..., 0] - peaks), inputs)
    kinked, _ = evaluations(lambda u: -jnp.abs(u[..., 0] - peaks), inputs)
    assert smooth <= 9 < kinked == 18


def test_finite_inputs_are_enumerated_exactly_and_never_left():
    mixed = [rc.Signal("mode", "1", values=(-2.0, 0.5, 4.0)), *signals(1)]
    rng = RNG(0)
    peaks = np.stack([rng.uniform(-3, 5, 300), rng.uniform(-0.5, 2.5, 300)], -1)
    u, v = (np.asarray(a) for a in maximise(concave(peaks, np.tile(np.eye(2), (300, 1, 1))), input_set(mixed, 11)))
    values = np.array([-2.0, 0.5, 4.0])
    np.testing.assert_array_equal(u[:, 0], values[np.argmin(np.abs(peaks[:, :1] - values), 1)])
    np.testing.assert_allclose(u[:, 1], peaks[:, 1], atol=1e-12)
    np.testing.assert_allclose(v, -((u - peaks) ** 2).sum(1), atol=1e-12)


def test_maximum_is_never_worse_than_any_candidate_on_rough_functions():
    rough = lambda u: jnp.sin(37 * u[..., 0]) + 0.3 * jnp.abs(jnp.cos(11 * u[..., 0] * u[..., 1]))
    inputs = input_set(signals(2), (9, 7))
    u, v = maximise(rough, inputs)
    assert float(v) >= float(rough(jnp.asarray(inputs.candidates)).max())
    assert float(v) == pytest.approx(float(rough(u)), rel=1e-14)
    assert np.all((np.asarray(u) >= -1) & (np.asarray(u) <= 3))


def test_search_starts_from_the_given_points():
    """Two peaks: the search stays on that of its start."""
    two = lambda u: jnp.maximum(1 - (u[..., 0] - 2.5) ** 2, 0.5 - (u[..., 0] + 0.5) ** 2)
    inputs = input_set(signals(1), 9)
    assert float(maximise(two, inputs)[0][0]) == pytest.approx(2.5, abs=1e-12)
    assert float(maximise(two, inputs, jnp.array([[-0.4]]))[0][0]) == pytest.approx(-0.5, abs=1e-12)


def test_candidates_are_the_product_of_equally_spaced_inputs():
    inputs = input_set([*signals(1), rc.Signal("mode", "1", values=(5, 1))], (3, 9))
    assert inputs.candidates.tolist() == [[-1, 5], [-1, 1], [1, 5], [1, 1], [3, 5], [3, 1]]
    assert inputs.step.tolist() == [2, 0]


@pytest.mark.parametrize(
    ("given", "count", "argument"), [(signals(1), 2, "inputs"), (signals(1, high=np.inf), 5, "u0"), (signals(2), (5, 1), "inputs")]
)
def test_bad_input_set_is_refused(given, count, argument):
    with pytest.raises(rc.InputError, match=rf"`{argument}` (needs|must) .+; got .+\. \S"):
        input_set(given, count)


# --- files --------------------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def references():
    linear = rc.Problem(plants.linear(F=[[0.0], [0.3]]), rc.quadratic([1, 2], [1]), gamma=0.9, dt=0.1)
    wheel = rc.Plant(
        name="wheel",
        states=[rc.Signal("angle", "rad", -np.pi, np.pi, periodic=True)],
        inputs=[rc.Signal("rate", "rad/s", -1, 1)],
        drift=lambda x, u, p: u,
        diffusion=lambda x, u, p: p.noise,
        params={"noise": 0.2},
    )
    turning = rc.Problem(
        wheel, lambda x, u: -(x[0] ** 2) - u[0] ** 2, gamma=0.8, dt=0.1, exit_value=lambda x: 3 * x[0], target=lambda x: x[0] - 3
    )
    return {"Riccati": rc.solve(linear, rc.Riccati()), "GridDP": rc.solve(turning, rc.GridDP(shape=(24,), inputs=5, quadrature=3))}


@pytest.mark.parametrize("method", ["Riccati", "GridDP"])
def test_reference_survives_a_file_bit_for_bit(references, method, tmp_path):
    before = references[method]
    path = before.save(tmp_path / "reference")
    after = rc.Reference.load(path)
    n, m = len(before.states), len(before.inputs)
    x, u = RNG(0).uniform(-1.5, 1.5, (40, n)), RNG(1).uniform(-1, 1, (40, m))
    for name, arguments in (("V", (x,)), ("Q", (x, u)), ("policy", (x,)), ("gradient", (x,))):
        got, want = getattr(after, name)(*arguments), getattr(before, name)(*arguments)
        assert np.ptp(want) > 0
        assert got.tobytes() == want.tobytes()
    for name in (
        "method",
        "error",
        "error_kind",
        "error_terms",
        "converged",
        "residual",
        "message",
        "notes",
        "states",
        "inputs",
        "seconds",
    ):
        assert getattr(after, name) == getattr(before, name), name
    assert after.kernel.update == before.kernel.update
    assert after.save(tmp_path / "again").read_bytes() == path.read_bytes()


def test_numbers_of_every_kind_survive_a_file(tmp_path):
    law = rc.Finite([[0.1 + 0.2, 1e-300], [np.pi, -0.0]], [0.25, 0.75])
    after = load_record(save_record(law, tmp_path / "law"), rc.Finite)
    assert after.nodes.tobytes() == law.nodes.tobytes()
    signal = rc.Signal("mode", "1", values=(1 / 3, np.pi))
    assert load_record(save_record(signal, tmp_path / "signal"), rc.Signal) == signal
    assert load_record(save_record(rc.Signal("free", "m"), tmp_path / "free"), rc.Signal) == rc.Signal("free", "m")


def test_suffix_is_added_and_never_replaces_part_of_the_name(references, tmp_path):
    paths = [references["Riccati"].save(tmp_path / name) for name in ("a", "gamma_0.98", "gamma_0.95", "b.npz")]
    assert [p.name for p in paths] == ["a.npz", "gamma_0.98.npz", "gamma_0.95.npz", "b.npz"]
    assert rc.Reference.load(tmp_path / "gamma_0.98").method == "Riccati"
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(p.name for p in paths)


def written(path, content):
    path.write_bytes(content)
    return path


def damaged(kind, path, good):
    content = good.read_bytes()
    middle = len(content) // 2
    if kind == "no layout":
        np.savez(path, a=1.0)
    elif kind == "unknown record":
        np.savez(path, layout=np.array('{"record": ["Nothing", {}]}'))
    elif kind == "no record":
        np.savez(path, layout=np.array("[1]"))
    elif kind == "missing fields":
        np.savez(path, layout=np.array('{"record": ["Reference", {"method": "x"}]}'))
    elif kind == "plain array":
        np.save(path.with_suffix(".npy"), np.zeros(3))
        path.with_suffix(".npy").rename(path)
    else:
        flipped = content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :]
        written(path, {"text": b"not a file of ours", "empty": b"", "truncated": content[:middle], "flipped": flipped}[kind])


@pytest.mark.parametrize(
    "kind",
    [
        "text", "no layout", "unknown record", "no record", "empty", "truncated", "flipped", "plain array", "missing fields",
    ],
)  # fmt: skip
def test_damaged_file_is_refused_by_name(references, kind, tmp_path):
    path = tmp_path / "damaged.npz"
    damaged(kind, path, references["Riccati"].save(tmp_path / "good"))
    with pytest.raises(rc.InputError, match="`path` must"):
        rc.Reference.load(path).converged  # noqa: B018 - a record without its fields fails on first use


def test_missing_file_wrong_kind_and_unwritable_folder_are_refused(references, tmp_path):
    with pytest.raises(rc.InputError, match=r"`path` must be a file; got .*nothing\.npz.*Check the name"):
        rc.Reference.load(tmp_path / "nothing")
    path = save_record(rc.Gaussian(2), tmp_path / "law")
    with pytest.raises(rc.InputError, match=r"`path` must hold a Reference; got 'Gaussian'\. Use"):
        rc.Reference.load(path)
    with pytest.raises(rc.InputError, match=r"`path` must be writable; .*No such file or directory\. Choose"):
        references["Riccati"].save(tmp_path / "no" / "such" / "folder")


def test_interrupted_save_leaves_the_old_file_and_nothing_else(references, tmp_path, monkeypatch):
    path = references["Riccati"].save(tmp_path / "r")
    old = path.read_bytes()

    def fail(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez_compressed", fail)
    with pytest.raises(KeyboardInterrupt):
        references["Riccati"].save(path)
    assert path.read_bytes() == old
    assert [p.name for p in tmp_path.iterdir()] == ["r.npz"]


@pytest.mark.parametrize("order", [1, 3, 5])
def test_padded_grids_and_resampling_give_the_same_values(order):
    """Coefficients embedded in a larger shape, one matrix an axis, and the plain evaluation agree; nodes are numbered alike."""
    grid = Grid((make_axis(uneven(9), order), make_axis(np.pi * np.arange(10) / 5, order, period=2 * np.pi)))
    values = RNG(0).normal(size=90)
    fine = Grid((make_axis(np.linspace(0, uneven(9)[-1], 13), order), make_axis(np.linspace(0, 6, 11), order)))
    plain = np.asarray(jax.jit(Grid.evaluate)(grid, grid.fit(values), fine.points()))
    wide = grid.padded((12, 17))
    padded = jax.jit(Grid.evaluate)(wide, grid.embed(grid.fit(values), (12, 17)), fine.points())
    np.testing.assert_allclose(padded, plain, atol=1e-12)
    np.testing.assert_allclose(grid.resample(values, fine), plain, atol=1e-12)
    np.testing.assert_array_equal(jax.jit(Grid.node)(wide, np.arange(90)), grid.points())


@orders
@pytest.mark.parametrize("period", [None, 3.5])
@pytest.mark.parametrize("nodes", [np.linspace(-1, 2, 12), uneven(12)], ids=["even", "uneven"])
def test_whatever_is_looked_up_lies_in_the_tables(order, nodes, period):
    """Compiled code does not check that: NaN, infinity and points far outside must lead to an interval of the axis."""
    axis = make_axis(nodes, order, period).padded(15)
    x = np.tile([np.nan, np.inf, -np.inf, 1e300, -1e300, -1.0, 2.0, 0.3], 100)
    indices, values = jax.jit(lambda x: (jnp.stack([i for i, _ in axis.terms(axis.place(x))]), axis.terms(axis.place(x))[0][1]))(x)
    assert np.min(indices) >= 0
    assert np.max(indices) < 12
    assert np.all(np.isnan(np.asarray(values)[np.isnan(x)]))


@orders
def test_weighted_sums_of_interpolated_values_are_one_matrix(order):
    axis, mass = make_axis(uneven(9), order), np.array([0.2, 0.3, 0.5])
    x = RNG(0).uniform(-1.5, 2.5, (3, 7))
    whole = sum(m * axis.matrix(row) for m, row in zip(mass, x, strict=True))
    np.testing.assert_allclose(axis.matrix(x, mass[:, None]), whole, atol=1e-12)


def test_many_terms_are_looped_over_to_the_same_sum():
    """Order 3 in four dimensions has 256 terms: a product of cubics is reproduced."""
    grid = box_grid([-1] * 4, [1] * 4, (6, 7, 6, 8), (False,) * 4, order=3)
    f = lambda x: (1 + x[:, 0] ** 3) * (x[:, 1] ** 2 - x[:, 2]) * (2 - x[:, 3] ** 3)
    x = RNG(0).uniform(-1, 1, (200, 4))
    found = jax.jit(Grid.evaluate)(grid, grid.fit(f(grid.points())), x)
    np.testing.assert_allclose(found, f(x), atol=1e-12)


def test_neighbours_of_finite_inputs():
    inputs = input_set([rc.Signal("gear", "1", values=(5.0, -1.0, 2.0)), *signals(1)], 5)
    near = np.asarray(inputs.beside(jnp.array([[2.0, 0.3], [5.0, 1.0]])))
    assert near[0].tolist() == [[-1.0, 0.3], [2.0, 0.3], [5.0, 0.3]]
    assert near[1].tolist() == [[2.0, 1.0], [5.0, 1.0], [5.0, 1.0]]
