"""Environments: Gymnasium's own checker on every plant, ends and time limits, seeding, and the batch against the single one."""

import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode

import plants
import rlctrl as rc
import rlctrl.interop.gymnasium as envs

ADVICE = ("recommend using a symmetric and normalized space", "value is -?infinity")  # a plant's units and bounds are what they are


def tank(**options):
    """A level that rises with the flow; exact by hand."""
    box = {"states": [rc.Signal("level", "m", -1, 1)], "inputs": [rc.Signal("flow", "m/s", -2, 2)]}
    plant = rc.Plant("tank", **box, update=lambda x, u, w, p: x + u + p.noise * w, noise=rc.Gaussian(1), params={"noise": 0.0})
    return rc.Problem(plant.with_params(noise=options.pop("noise", 0.0)), lambda x, u: -(x[0] ** 2), gamma=0.9, **options)


@pytest.mark.parametrize("name", plants.names())
def test_the_checker_of_gymnasium_passes(name):
    limited = gymnasium.make(envs.env_id(name), disable_env_checker=True)
    env = limited.unwrapped
    with warnings.catch_warnings():
        for advice in ADVICE:
            warnings.filterwarnings("ignore", message=f".*{advice}")
        check_env(env, skip_close_check=True)
    assert limited.spec is not None
    assert limited.spec.max_episode_steps == 200


def test_ids_are_those_of_the_plants():
    ids = {key for key in gymnasium.registry if key.startswith("rlctrl/")}
    assert ids == {envs.env_id(name) for name in plants.names()}
    assert {"rlctrl/Pendulum-v0", "rlctrl/CartPole-v0"} <= ids


def test_a_parameter_of_the_plant_and_the_time_limit_reach_the_environment():
    env = gymnasium.make("rlctrl/Pendulum-v0", mass=2.0, max_episode_steps=3)
    assert env.unwrapped.problem.plant.params["mass"] == 2.0
    env.reset(seed=0)
    ends = [env.step(env.action_space.sample())[2:4] for _ in range(3)]
    assert ends == [(False, False), (False, False), (False, True)]


def test_the_same_seed_gives_the_same_episode_and_another_another():
    def episode(seed):
        env = envs.Env(tank(noise=0.1, exit="free"))
        return np.concatenate([env.reset(seed=seed)[0], *[env.step([0.1])[0] for _ in range(envs.BLOCK + 3)]])

    np.testing.assert_array_equal(episode(1), episode(1))
    assert np.all(episode(1) != episode(2))
    assert len(np.unique(episode(1))) > envs.BLOCK  # fresh noise in every block


def test_a_step_is_that_of_the_problem():
    problem = rc.Problem(**plants.defaults("pendulum", noise=0.0))
    env = envs.Env(problem)
    env.reset(options={"x": [0.3, -0.2]})
    x, reward, *_, info = env.step([1.5])
    np.testing.assert_array_equal(x, problem.transition([0.3, -0.2], [1.5], [0.0]))
    assert reward == problem.reward([0.3, -0.2], [1.5])
    assert info == {"x": pytest.approx(x), "left": False}


def test_beyond_its_bounds_an_action_is_clipped_and_a_state_projected():
    env = envs.Env(tank())
    env.reset(options={"x": [0.5]})
    x, _, terminated, _, info = env.step([7.0])
    assert (x[0], terminated, info["left"]) == (1.0, False, True)
    assert env.step([-np.inf])[0] == [-1.0]


def test_an_absorbing_exit_terminates_and_pays_what_simulate_counts():
    problem = tank(exit="absorb", exit_value=lambda x: -20 * x[0])
    env = envs.Env(problem, x0=[0.5], horizon=2)
    env.reset()
    x, reward, terminated, truncated, _ = env.step([0.75])
    assert (x[0], terminated, truncated) == (1.25, True, False)
    path = rc.simulate(problem, lambda x: 0 * x + 0.75, [0.5], 3)
    assert reward == pytest.approx(path.returns[0])
    assert env.observation_space.contains(x)


def test_a_target_terminates_and_no_episode_starts_in_it():
    env = envs.Env(tank(target=lambda x: x[0]))
    starts = [env.reset(seed=seed)[0][0] for seed in range(20)]
    assert min(starts) > 0
    assert env.step([-2.0])[2]


def test_the_time_limit_truncates_only():
    env = envs.Env(tank(), x0=[0.0], horizon=2)
    env.reset()
    assert [env.step([0.0])[2:4] for _ in range(2)] == [(False, False), (False, True)]


def test_a_start_turns_away_is_brought_into_the_box():
    env = envs.Env(rc.Problem(**plants.defaults("pendulum")))
    assert env.reset(options={"x": [0.5 + 6 * np.pi, 1.0]})[0] == pytest.approx([0.5, 1.0])


def test_observations_as_cosine_and_sine_and_in_single_precision():
    env = gymnasium.make("rlctrl/Pendulum-v0", observation="sincos", dtype="float32").unwrapped
    observation, info = env.reset(seed=1)
    assert observation.dtype == env.action_space.dtype == np.float32
    theta, omega = info["x"]
    np.testing.assert_allclose(observation, [omega, np.cos(theta), np.sin(theta)], rtol=1e-6)
    assert info["x"].dtype == np.float64


def test_inputs_of_finitely_many_values_are_numbered():
    env = gymnasium.make("rlctrl/GymCartPole-v0").unwrapped
    assert env.action_space == gymnasium.spaces.Discrete(2)
    outside = gymnasium.make("CartPole-v1").unwrapped
    start, _ = outside.reset(seed=0)
    outside.state = start.astype(float)
    env.reset(options={"x": start})
    for action in (1, 0, 0, 1):
        ours, theirs = env.step(action)[0], outside.step(action)[0]
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-7)


def two_inputs(values):
    inputs = [rc.Signal("a", "1", values=(0, 3)), rc.Signal("b", "1", -1, 1, values=values)]
    plant = rc.Plant("two", [rc.Signal("x", "1")], inputs, update=lambda x, u, w, p: x + u[0] + u[1])
    return rc.Problem(plant, lambda x, u: -x[0], gamma=0.9)


def test_several_finite_inputs_and_a_mixture():
    env = envs.Env(two_inputs((-1, 0, 1)), x0=[0.0])
    assert env.action_space == gymnasium.spaces.MultiDiscrete([2, 3])
    env.reset()
    assert env.step([1, 0])[0] == [2.0]
    for action in ([0, -1], [0, 3], [0, 0.7]):
        with pytest.raises(rc.InputError, match=r"`action` must be 1 of MultiDiscrete"):
            env.step(action)
    with pytest.raises(rc.InputError, match="must have inputs that are all finite or all continuous"):
        envs.Env(two_inputs(None))


def test_unbounded_states_start_near_zero_and_may_go_anywhere():
    env = envs.Env(two_inputs((-1, 1)))
    assert np.all(np.isinf(env.observation_space.high))
    assert abs(env.reset(seed=0)[0][0]) <= 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"observation": "sincoss"}, "`observation` must be one of.*Did you mean `sincos`"),
        ({"dtype": "float16"}, "`dtype` must be one of"),
        ({"x0": [[1.0, 2.0]]}, r"`x0` must have shape \(1,\)"),
        ({"horizon": 0}, "`horizon` must be a whole number"),
        ({"horizn": 3}, "Did you mean `horizon`"),
    ],
)
def test_wrong_arguments_are_refused(options, said):
    with pytest.raises(rc.InputError, match=said):
        envs.Env(tank(), **options)


def test_wrong_calls_are_refused():
    env = envs.Env(tank())
    with pytest.raises(rc.InputError, match="`step` needs reset"):
        env.step([0.0])
    refused = (({"y": 1}, 'must be {"x": state}'), (3, 'must be {"x": state}'), (np.zeros(2), 'must be {"x": state}'))
    refused += (({"x": [1, 2]}, 'must hold "x" of shape'), ({"x": "here"}, "must be an array of numbers"))
    refused += (({"x": [1.5]}, 'must hold "x" within the box'),)
    for options, said in refused:
        with pytest.raises(rc.InputError, match=said):
            env.reset(options=options)
    env.reset()
    for action in ([1.0, 2.0], "up", [np.nan]):
        with pytest.raises(rc.InputError, match="`action` must be 1 of Box"):
            env.step(action)


def test_a_batch_takes_the_steps_of_single_environments():
    batch = gymnasium.make_vec("rlctrl/Pendulum-v0", num_envs=3, noise=0.0)
    single = gymnasium.make("rlctrl/Pendulum-v0", noise=0.0)
    assert batch.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    start, _ = batch.reset(seed=5)
    again, _ = batch.reset(seed=5)
    np.testing.assert_array_equal(start, again)
    actions = np.array([[1.0], [-2.0], [9.0]])
    x, reward, *_ = batch.step(actions)
    for k in range(3):
        single.reset(options={"x": start[k]})
        alone = single.unwrapped.step(actions[k])
        np.testing.assert_array_equal(x[k], alone[0])
        assert reward[k] == alone[1]
    assert x in batch.observation_space


def test_a_batch_returns_the_last_observation_and_starts_anew_a_step_later():
    problem = tank(exit="absorb", exit_value=lambda x: -20.0)
    batch = envs.VectorEnv(problem, 3, x0=[[0.0]], max_episode_steps=3)
    batch.reset(seed=0)
    flows = np.array([[0.0], [0.6], [2.0]])
    seen = [batch.step(flows) for _ in range(5)]
    x, reward, terminated, truncated = (np.stack([row[k] for row in seen]) for k in range(4))
    np.testing.assert_allclose(x[..., 0].T, [[0, 0, 0, 0, 0], [0.6, 1.2, 0, 0.6, 1.2], [2, 0, 2, 0, 2]], atol=1e-15)
    np.testing.assert_array_equal(terminated.T, [[False] * 5, [False, True, False, False, True], [True, False, True, False, True]])
    np.testing.assert_array_equal(truncated.T, [[False, False, True, False, False], [False] * 5, [False] * 5])
    np.testing.assert_allclose(reward.T[1:], [[0, -0.36 - 18, 0, 0, -0.36 - 18], [-18, 0, -18, 0, -18]])
