"""Plants, critics, policies and data as files and CasADi Functions: exact there and back, damage refused."""

import csv
import ctypes
import json
import os
import shutil
import subprocess
import warnings
from dataclasses import replace

import casadi as ca
import jax
import numpy as np
import pytest
from scipy import sparse

import plants
import rlctrl as rc
from rlctrl.critic.network import CriticQ
from rlctrl.grid import box_grid
from rlctrl.interop import plant_file
from rlctrl.interop.casadi_export import as_casadi, write_c
from rlctrl.interop.export import write_csv
from rlctrl.interop.finite import finite_problem
from rlctrl.maximise import input_set
from rlctrl.reference.level import GridPolicy
from rlctrl.reference.sweep import GridValue


@pytest.fixture(scope="module")
def problem():
    return rc.Problem(**plants.defaults("pendulum"))


@pytest.fixture(scope="module")
def reference(problem):
    return rc.solve(problem, rc.Riccati(about=([0.0, 0.0], [0.0])))


def points(count=40):
    rng = np.random.default_rng(0)
    return rng.uniform([-3, -8], [3, 8], (count, 2)), rng.uniform(-5, 5, (count, 1))


@pytest.mark.parametrize("name", plants.names())
def test_a_saved_plant_comes_back(name, tmp_path):
    plant = plants.get(name)
    back = rc.Plant.load(plant.save(tmp_path / "plant.json"))
    assert back.digest == plant.digest
    assert (back.name, back.states, back.inputs, back.source) == (plant.name, plant.states, plant.inputs, plant.source)
    assert {k: np.shape(v) for k, v in back.params.items()} == {k: np.shape(v) for k, v in plant.params.items()}


def test_parameters_of_a_loaded_plant_can_be_changed(tmp_path):
    back = rc.Plant.load(plants.pendulum().save(tmp_path / "plant.json"))
    assert back.with_params(mass=2.0).digest == plants.pendulum(mass=2.0).digest
    assert plants.pendulum().digest != plants.pendulum(mass=2.0).digest


@pytest.mark.parametrize("law", [rc.Uniform(1), rc.Exponential(1), rc.Finite([[0.0], [1 / 3]], [0.3, 0.7])])
def test_every_law_of_the_noise_comes_back(law, tmp_path):
    box = {"states": [rc.Signal("x", "m")], "inputs": [rc.Signal("u", "1", values=(0, 1))]}
    plant = rc.Plant("walk", **box, update=lambda x, u, w, p: x + u + p.k[0] * w, noise=law, params={"k": [0.1, 1 / 3]})
    back = rc.Plant.load(plant.save(tmp_path / "plant.json"))
    assert back.digest == plant.digest
    assert type(back.law) is type(law)
    np.testing.assert_array_equal(back.update_function([1], [1], [0.5], back.parameter_vector), 1 + 1 + 0.05)


def forged(content):
    """A file with a checksum that fits and a function that CasADi cannot read."""
    content["plant"]["functions"]["drift"] = "not CasADi's"
    content["checksum"] = plant_file.checksum(content["plant"])
    return json.dumps(content)


def damaged(path):
    text = path.read_text(encoding="utf-8")
    content = json.loads(text)
    yield text[: len(text) // 2], "is not readable"
    yield "[1]", "is not readable"
    yield '{"format": "other", "checksum": "", "plant": {}}', 'must be of format "rlctrl plant 1"'
    content["plant"]["functions"]["drift"] = content["plant"]["functions"]["drift"][:-5] + "xxxxx"
    yield json.dumps(content), "must be undamaged"
    yield forged(content), "this version of CasADi reads; got drift"


def test_what_a_killed_write_left_goes_with_the_next_one_but_nothing_else(tmp_path):
    path = tmp_path / "plant[1].json"
    old, young, other = (tmp_path / name for name in (".plant[1].json-0123abcd", ".plant[1].json-89abcdef", ".plant[1].json-reserved"))
    for left in (old, young, other):
        left.write_bytes(b"half")
    for left in (old, other):
        os.utime(left, times=(0, 0))
    plants.pendulum().save(path)
    assert sorted(tmp_path.iterdir()) == sorted([young, other, path])


def test_damaged_and_foreign_files_are_refused(tmp_path):
    path = plants.pendulum().save(tmp_path / "plant.json")
    for text, said in damaged(path):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(rc.InputError, match=said):
            rc.Plant.load(path)
    with pytest.raises(rc.InputError, match="`path` must be a file"):
        rc.Plant.load(tmp_path / "none.json")


def test_functions_go_out_to_casadi_and_come_back():
    plant = plants.pendulum()
    parts = plant.casadi()
    assert sorted(parts) == ["diffusion", "drift"]
    signals = {"states": plant.states, "inputs": plant.inputs}
    assert rc.Plant.from_casadi("pendulum", **signals, **parts, params=plant.params).digest == plant.digest
    x, u = ca.MX.sym("x", 2), ca.MX.sym("u")
    plain = rc.Plant.from_casadi("plain", **signals, drift=ca.Function("f", [x, u], [ca.vertcat(x[1], u)]))
    np.testing.assert_array_equal(plain.jacobian([0, 0], [0])[0], [[0, 1], [0, 0]])
    with pytest.raises(rc.InputError, match=r"`drift` must be a CasADi Function of \(x, u\) or \(x, u, p\)"):
        rc.Plant.from_casadi("plain", **signals, drift=ca.Function("f", [x], [x]))


CRITICS = {
    "sincos": {"hidden": 6},
    "deep": {"hidden": (4, 5), "activation": "softplus", "features": "fourier"},
    "polynomial": {"hidden": (), "features": "polynomial", "degree": 3},
    "gauss": {"hidden": 4, "activation": "gauss", "features": "affine"},
    **{a: {"hidden": 3, "activation": a, "features": "affine"} for a in ("square", "identity", "sigmoid", "sin", "relu")},
}


def critic(problem, **options):
    network = rc.Critic(**options).network(problem.plant)
    return CriticQ(network, np.random.default_rng(1).normal(size=network.size))


@pytest.mark.parametrize("options", CRITICS.values(), ids=CRITICS)
def test_critics_as_casadi_functions(problem, options):
    q, (x, u) = critic(problem, **options), points()
    expected = np.asarray(jax.jit(CriticQ.at)(q, x, u))
    np.testing.assert_allclose(np.array(as_casadi(q, problem)(x.T, u.T))[0], expected, rtol=1e-12, atol=1e-12)


def test_policies_and_quadratic_values_as_casadi_functions(problem, reference):
    x, u = points()
    actors = [rc.Actor(kind=kind, hidden=5).policy(problem.plant, jax.random.key(1)) for kind in ("linear", "clipped", "mlp")]
    actors = [actor.at(np.random.default_rng(2).normal(size=np.shape(actor.theta))) for actor in actors]
    for policy in (reference.policy, reference.policy.clipped(-1, 1), *actors, actors[2].clipped(-0.1, 0.1)):
        np.testing.assert_allclose(np.array(as_casadi(policy)(x.T)).T, policy(x), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(np.array(as_casadi(reference.value)(x.T))[0], reference.V(x), rtol=1e-12)
    np.testing.assert_allclose(np.array(as_casadi(reference.q)(x.T, u.T))[0], reference.Q(x, u), rtol=1e-12)


@pytest.fixture(scope="module", params=[1, 3, 5])
def grid_value(request):
    grid = box_grid([-np.pi, -8], [np.pi, 8], (12, 9), (True, False), request.param, margin=0.1)
    return GridValue(grid, np.asarray(grid.fit(np.random.default_rng(3).normal(size=np.prod(grid.shape)))))


def test_values_on_grids_as_casadi_functions(grid_value):
    x = np.random.default_rng(0).uniform([-9, -8], [9, 8], (60, 2))  # the angle turns
    x = np.concatenate([x, grid_value.grid.points(), [[np.pi, 0.5]]])
    expected = np.asarray(grid_value.at(x))
    np.testing.assert_allclose(np.array(as_casadi(grid_value)(x.T))[0], expected, atol=1e-12)


def test_what_needs_a_search_is_refused_by_name(problem, reference):
    greedy = rc.Critic(hidden=(), features=lambda z: z)
    for thing, said in (
        (reference, "Reference has none"),
        (problem.plant, "Plant has none"),
        (rc.policy.as_policy(lambda x: x[:, :1], 2, 1).clipped(-1, 1), "must clip a linear or Actor policy"),
    ):
        with pytest.raises(rc.InputError, match=said):
            as_casadi(thing)
    with pytest.raises(rc.InputError, match="`features` must be built in"):
        as_casadi(CriticQ(greedy.network(problem.plant), np.zeros(3)), problem)
    with pytest.raises(rc.InputError, match="`problem` must be given"):
        as_casadi(critic(problem))


def compiled(source):
    """A C file as a shared library, by the system's compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no C compiler")
    library = source.with_suffix(".so")
    subprocess.run([compiler, "-O1", "-fPIC", "-shared", str(source), "-o", str(library), "-lm"], check=True)
    return library


def test_policies_on_grids_as_casadi_functions(grid_value):
    grid = grid_value.grid
    table = np.stack([np.asarray(grid.fit(np.random.default_rng(k).normal(size=np.prod(grid.shape)))) for k in (4, 5)], -1)
    policy = GridPolicy(grid, table, input_set([rc.Signal("a", "1", -0.5, 0.5), rc.Signal("b", "1", -2, 0.1)], 3))
    x = np.random.default_rng(0).uniform([-4, -8], [4, 8], (100, 2))
    np.testing.assert_allclose(np.array(as_casadi(policy)(x.T)).T, np.asarray(policy(x)), atol=1e-12)
    switched = replace(policy, inputs=input_set([rc.Signal("a", "1", values=(0, 1)), rc.Signal("b", "1", -2, 0.1)], 3))
    with pytest.raises(rc.InputError, match="finitely many values"):
        as_casadi(switched)


def test_c_source_compiles_and_agrees(problem, reference, grid_value, tmp_path):
    x, u = points()
    q = critic(problem, hidden=6)
    both = lambda function: np.array(function(x.T, u.T) if function.n_in() == 2 else function(x.T))
    for name, thing, owner in (("Q", q, problem), ("policy", reference.policy.clipped(-1, 1), None), ("V", grid_value, None)):
        function = as_casadi(thing, owner)
        outside = ca.external(name, str(compiled(write_c(thing, tmp_path / f"{name}.c", owner))))
        np.testing.assert_allclose(both(outside), both(function), rtol=1e-12, atol=1e-12)
    with pytest.raises(rc.InputError, match=r"`path` must end in \.c"):
        write_c(q, tmp_path / "critic.txt", problem)
    with pytest.raises(rc.InputError, match=r"`path` must be a letter, then .*; got 'my-critic\.c'"):
        write_c(q, tmp_path / "my-critic.c", problem)


def test_the_c_source_can_be_called_without_casadi(reference, tmp_path):
    library = ctypes.CDLL(str(compiled(write_c(reference.policy, tmp_path / "policy.c"))))
    numbers = lambda *values: (ctypes.c_double * len(values))(*values)
    x, u = numbers(0.3, -0.2), numbers(0.0)
    pointers = lambda array: (ctypes.POINTER(ctypes.c_double) * 1)(ctypes.cast(array, ctypes.POINTER(ctypes.c_double)))
    assert library.policy(pointers(x), pointers(u), None, numbers(*[0.0] * 100), 0) == 0
    np.testing.assert_allclose(u[0], reference.policy(np.array([0.3, -0.2]))[0], rtol=1e-12)


@pytest.fixture(scope="module")
def path(problem):
    return rc.simulate(problem, lambda x: -x[..., :1], np.ones((3, 2)), 4)


def test_a_trajectory_as_csv_reads_back_exactly(path, tmp_path):
    with open(path.save_csv(tmp_path / "path.csv"), newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    assert header == ["path", "t", "theta", "omega", "torque", "reward", "alive"]
    read = np.array([[float(v or "nan") for v in row] for row in rows]).reshape(3, 5, 7)
    np.testing.assert_array_equal(read[..., 2:4], path.x)
    np.testing.assert_array_equal(read[:, :-1, 4:5], path.u)
    np.testing.assert_array_equal(read[:, :-1, 5], path.r)
    assert np.all(np.isnan(read[:, -1, 4:6]))
    np.testing.assert_array_equal(read[..., 0], [[0] * 5, [1] * 5, [2] * 5])


def test_csv_of_columns_of_unequal_length_is_refused(tmp_path):
    with pytest.raises(rc.InputError, match="`columns` must be equally long"):
        write_csv(tmp_path / "x.csv", {"a": [1, 2], "b": [1]})
    assert list(tmp_path.iterdir()) == []


def test_a_trajectory_for_pandas(path, problem):
    pandas = pytest.importorskip("pandas")
    frame = path.to_pandas()
    assert list(frame.columns) == ["theta", "omega", "torque", "reward", "alive"]
    assert frame.index.names == ["path", "t"]
    np.testing.assert_array_equal(frame.loc[1][["theta", "omega"]].to_numpy(), path.x[1])
    alone = rc.simulate(problem, lambda x: -x[..., :1], np.ones(2), 4).to_pandas()
    assert isinstance(alone, pandas.DataFrame)
    np.testing.assert_array_equal(alone.index, path.t)


def test_without_pandas_the_refusal_names_it(path, monkeypatch):
    monkeypatch.setattr("rlctrl.interop.tables.find_spec", lambda name: None)
    with pytest.raises(rc.InputError, match=r"needs the package pandas.*save_csv"):
        path.to_pandas()


def test_a_signal_may_be_called_like_another_column():
    box = {"states": [rc.Signal("t", "K")], "inputs": [rc.Signal("reward", "1")]}
    problem = rc.Problem(rc.Plant("p", **box, update=lambda x, u, w, p: x + u), lambda x, u: -x[0], gamma=0.9)
    found = rc.simulate(problem, lambda x: x, [1.0], 2)
    from rlctrl.interop.tables import columns

    assert list(columns(found)) == ["path", "t_", "t", "reward", "reward_", "alive"]


@pytest.fixture(scope="module")
def tables():
    plant = plants.pendulum(noise=0.3)
    bounded = rc.Problem(plant, lambda x, u: -(x[0] ** 2), gamma=0.95, dt=0.1, exit="absorb", exit_value=lambda x: -20.0)
    return finite_problem(bounded, rc.GridDP(shape=(12, 13), inputs=3, quadrature=3))


def test_closing_keeps_the_value_and_makes_probabilities(tables):
    closed = tables.closed()
    np.testing.assert_allclose(closed.transitions.sum(1), 1.0, atol=1e-12)
    assert closed.rewards.shape == (12 * 13 + 1, 3)
    assert closed.closed() is closed
    value = iterated(tables)
    np.testing.assert_allclose(iterated(closed), np.append(value, 0.0), atol=1e-12)


def iterated(tables, count=300):
    """Value iteration."""
    v = np.zeros(len(tables.rewards))
    for _ in range(count):
        v = np.max(tables.rewards + tables.gamma * (tables.transitions @ v).reshape(tables.rewards.shape), 1)
    return v


def test_pairs_are_what_quantecon_takes(tables):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the packages it imports
        from quantecon.markov import DiscreteDP
    found = DiscreteDP(*tables.closed().pairs()).solve(method="value_iteration", epsilon=1e-9)
    np.testing.assert_allclose(found.v[:-1], iterated(tables), atol=1e-5)


def test_what_gives_no_probabilities_is_refused():
    leaves = rc.Problem(**plants.defaults("car_replacement"))  # exit="free", and the next mileage lies beyond the grid
    with pytest.raises(rc.InputError, match=r"`exit` must not extrapolate.*got 'free \(-0.16\)'.*Use exit=\"clip\""):
        finite_problem(leaves, rc.GridDP(shape=9))
    undefined = rc.Problem(plants.double_integrator(), lambda x, u: -ca.sqrt(x[0]), gamma=0.9, dt=0.1)
    with pytest.raises(rc.InputError, match="`problem` must have finite rewards"):
        finite_problem(undefined, rc.GridDP(shape=(7, 7), inputs=3))


def read_petsc(path):
    """A sparse matrix from PETSc's binary format."""
    data = path.read_bytes()
    kind, rows, columns, stored = np.frombuffer(data, ">i4", 4)
    assert kind == 1211216
    counts = np.frombuffer(data, ">i4", rows, 16)
    index = np.frombuffer(data, ">i4", stored, 16 + 4 * rows)
    values = np.frombuffer(data, ">f8", stored, 16 + 4 * (rows + stored))
    assert len(data) == 16 + 4 * rows + 12 * stored
    return sparse.csr_array((values.astype(float), index.astype(int), np.append(0, np.cumsum(counts))), shape=(rows, columns))


def test_petsc_files_hold_the_closed_tables(tables, tmp_path):
    P, g = map(read_petsc, tables.save_petsc(tmp_path))
    closed = tables.closed()
    np.testing.assert_array_equal(P.toarray(), closed.transitions.toarray())
    np.testing.assert_array_equal(g.toarray(), -closed.rewards)
