"""Session rewards and group advantages."""

import doctest

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from uma_lib import credit
from uma_lib.credit import group_advantages, question_reward, tool_reward, trajectory_return


def test_tool_reward_never_pays_for_idle_calls():
    assert tool_reward(0, 0) == 1.0
    assert tool_reward(1, 1) == tool_reward(0, 0)
    assert tool_reward(3, 4) == 0.75
    assert tool_reward(0, 2) == 0.0
    for valid, calls in [(2, 1), (-1, 3)]:
        with pytest.raises(ValueError, match="valid of"):
            tool_reward(valid, calls)


def test_question_reward_and_trajectory_return():
    assert question_reward(1.0, 0.5, 0.5) == 1.25
    assert question_reward(1.0, 0.5, 0.0) == 1.0
    assert trajectory_return([1.5, 0.5, 0.25, 0.75]) == 0.75
    with pytest.raises(ValueError, match="without questions"):
        trajectory_return([])


@given(st.lists(st.floats(-2, 2), min_size=2, max_size=8), st.randoms(use_true_random=False))
def test_trajectory_return_does_not_depend_on_question_order(rewards, random):
    shuffled = rewards.copy()
    random.shuffle(shuffled)
    assert trajectory_return(shuffled) == trajectory_return(rewards)


def test_advantages_worked_example():
    # memory group: mean 0.5, population std 0.5; question group: mean 1, std sqrt(2/3)
    rewards = [0.0, 2.0, 1.0, 1.0, 0.0]
    groups = [("memory", 0), ("question", 0, 0), ("question", 0, 0), ("memory", 0), ("question", 0, 0)]
    expected = [-1.0, 1.5**0.5, 0.0, 1.0, -(1.5**0.5)]
    assert group_advantages(rewards, groups) == pytest.approx(expected)


def test_strata_are_apart_and_one_constant_group_is_the_ablation():
    rewards = [10.0, 12.0, 0.0, 1.0]
    assert group_advantages(rewards, ["memory", "memory", "question", "question"]) == [-1, 1, -1, 1]
    together = group_advantages(rewards, [0] * 4)
    assert together[0] > 0 and together[3] < 0


# Quarters are exact in binary, as are their sums: rewards are equal or clearly different, never almost equal.
QUARTERS = st.integers(-8, 8).map(lambda n: n / 4)


@given(st.lists(st.tuples(QUARTERS, st.integers(0, 4)), max_size=40), st.sampled_from([0.0, 0.1, 3.0]))
def test_advantages_equal_the_equations_on_ragged_groups(pairs, floor):
    rewards = np.array([r for r, _ in pairs])
    groups = np.array([g for _, g in pairs])
    expected = np.zeros(len(pairs))
    for group in set(groups.tolist()):
        values = rewards[groups == group]
        deviation = np.sqrt(np.mean((values - values.mean()) ** 2))
        if len(values) > 1 and deviation > 0:
            expected[groups == group] = (values - values.mean()) / np.maximum(deviation, floor)
    actual = group_advantages(rewards.tolist(), groups.tolist(), floor)
    np.testing.assert_allclose(actual, expected, atol=1e-12)


@given(st.floats(-3, 3), st.integers(1, 30))
def test_a_group_of_one_or_of_equal_rewards_has_no_advantage(reward, size):
    assert group_advantages([reward] * size, ["g"] * size) == [0.0] * size


def test_rounding_differences_are_not_advantages():
    assert group_advantages([0.1 + 0.2, 0.3, 0.3], [0, 0, 0]) == [0.0, 0.0, 0.0]
    assert group_advantages([0.0, 1e-300], [0, 0]) == [0.0, 0.0]


def test_advantages_refuse_bad_input():
    with pytest.raises(ValueError, match="2 rewards but 1"):
        group_advantages([1.0, 2.0], [0])
    with pytest.raises(ValueError, match="not finite"):
        group_advantages([1.0, float("nan")], [0, 0])
    assert group_advantages([], []) == []


def test_examples():
    assert doctest.testmod(credit).failed == 0
