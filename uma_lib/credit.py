"""From rewards to advantages: what each turn of each session is credited with.

A credit rule is a function, `Credit`: contexts that were rolled out in, an advantage for every turn out. `stratified`
is the paper's, `one_group` its ablation; another one is another function.

Sources: the reward, the trajectory return (eq. 4) and the task-stratified advantages are those of UMA
(arXiv 2602.18493). Deviations from the paper and from its public code:

- A session without tool calls has tool reward 1, so an idle ``list`` can only lose reward, never earn any.
- A group of one has advantage 0 (the public code keeps its raw reward).

What an answer is worth says the data set's first metric; an answer that could not be scored takes no part.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass

from uma_lib.engines.protocol import Tokens
from uma_lib.files import RunError
from uma_lib.rollout import Context


def alone(rewards: list[float]) -> tuple[list[list[float]], int]:
    """The rewards of all processes, and which are this one's: here there is one process."""
    return [rewards], 0


@dataclass(frozen=True)
class CreditOptions:
    """What credit rules may be told."""

    tool_weight: float = 0.05  # lambda_tool
    std_floor: float = 0.1  # under a group's standard deviation
    gather: Callable[[list[float]], tuple[list[list[float]], int]] = alone  # for rules over all processes


@dataclass
class Weighted:
    """One session to learn from, with an advantage for each of its turns."""

    tokens: Tokens
    advantages: list[float]


Credit = Callable[[Sequence[Context], CreditOptions], list[Weighted]]


def tool_reward(valid: int, calls: int) -> float:
    """r_tool: the share of a session's tool calls that succeeded, in [0, 1]; 1.0 without any call.

    The share of no calls is undefined in the paper; 1.0 makes an invalid call a loss and an idle one no gain.
    """
    if not 0 <= valid <= calls:
        raise ValueError(f"{valid} valid of {calls} calls; need 0 <= valid <= calls")
    return valid / calls if calls else 1.0


def question_reward(outcome: float, r_tool: float, lambda_tool: float) -> float:
    """R_ij = lambda_tool * r_tool + r_outcome of one question session (lambda_tool is 0.5 in the paper)."""
    return lambda_tool * r_tool + outcome


def trajectory_return(question_rewards: Sequence[float]) -> float:
    """G_i, the mean reward of the questions asked from one final memory (paper, eq. 4)."""
    if not question_rewards:
        raise ValueError("a trajectory without questions has no return; ask at least one question")
    # fsum: the same rewards in another order give the same return, bit for bit
    return math.fsum(question_rewards) / len(question_rewards)


def group_advantages(rewards: Sequence[float], groups: Sequence[Hashable], std_floor: float = 0.0) -> list[float]:
    """Advantages (r - mean) / max(std, std_floor) within each group, in the order of ``rewards``.

    ``groups[i]`` names the group of ``rewards[i]``. Task-stratified: the memory trajectories of a context
    share ("memory", context), the sessions of its question j share ("question", context, j); one constant for
    all is the single-group ablation. std is the population standard deviation. A group of one, or one whose
    rewards are all equal up to rounding (1e-9; rewards are of order one), gets 0.0: it cannot say what was
    better. Raises ValueError for unequal lengths or a reward that is not finite.

    >>> group_advantages([1.0, 0.0, 7.0], ["a", "a", "b"])
    [1.0, -1.0, 0.0]
    """
    if len(rewards) != len(groups):
        raise ValueError(f"{len(rewards)} rewards but {len(groups)} group names; give one name a reward")
    if not all(math.isfinite(reward) for reward in rewards):
        raise ValueError("a reward is not finite; every reward must be a finite number")
    members: dict[Hashable, list[int]] = {}
    for index, group in enumerate(groups):
        members.setdefault(group, []).append(index)
    advantages = [0.0] * len(rewards)
    for indices in members.values():
        values = [rewards[i] for i in indices]
        scale = max(1.0, *(abs(value) for value in values))
        if max(values) - min(values) <= 1e-9 * scale:  # rounding must not be blown up to +-1
            continue
        mean = math.fsum(values) / len(values)
        std = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / len(values))
        for i in indices:
            advantages[i] = (rewards[i] - mean) / max(std, std_floor)
    return advantages


def rewards_of(contexts: Sequence[Context], tool_weight: float) -> Iterator[tuple[tuple, float, list[Tokens]]]:
    """(group, reward, sessions that carry its advantage) for memory trajectories and question sessions."""
    for context in contexts:
        for trajectory in context.trajectories:
            rewards = []
            for j, (trace, outcome) in enumerate(zip(trajectory.answers, trajectory.outcomes, strict=True)):
                if outcome is None:
                    continue
                reward = question_reward(outcome, tool_reward(trace.valid_calls, len(trace.calls)), tool_weight)
                rewards.append(reward)
                yield ("question", context.name, j), reward, _tokens([trace])
            sessions = [trace for trace in trajectory.sessions if trace.written or trace.tokens]
            if not rewards or not sessions:  # nothing was scored, or no model keeps a memory
                continue
            valid = sum(trace.valid_calls for trace in sessions)
            calls = sum(len(trace.calls) for trace in sessions)
            # the mean over its questions (eq. 4), and its own calls as in the authors' code
            own = tool_weight * tool_reward(valid, calls)
            yield ("memory", context.name), trajectory_return(rewards) + own, _tokens(sessions)


def _tokens(traces: Sequence) -> list[Tokens]:
    if any(trace.tokens is None for trace in traces):
        raise RunError("training needs token ids, and this engine gives text alone: use a local model")
    return [trace.tokens for trace in traces]


def stratified(contexts: Sequence[Context], options: CreditOptions) -> list[Weighted]:
    """The paper's: the memory trajectories of a context are a group, the sessions of each of its questions another.

    Every session of memory trajectory i carries A_i. Groups lie within a process.
    """
    rows = list(rewards_of(contexts, options.tool_weight))
    return _weighted(rows, group_advantages([r for _, r, _ in rows], [g for g, _, _ in rows], options.std_floor))


def one_group(contexts: Sequence[Context], options: CreditOptions) -> list[Weighted]:
    """The paper's ablation: one group for everything, over all processes."""
    rows = list(rewards_of(contexts, options.tool_weight))
    everywhere, own = options.gather([reward for _, reward, _ in rows])
    flat = [reward for part in everywhere for reward in part]
    before = sum(map(len, everywhere[:own]))
    return _weighted(rows, group_advantages(flat, ["all"] * len(flat), options.std_floor)[before : before + len(rows)])


def _weighted(rows: list[tuple[tuple, float, list[Tokens]]], advantages: Sequence[float]) -> list[Weighted]:
    """Sessions with a non-zero advantage, the same for all turns."""
    return [
        Weighted(tokens, [advantage] * len(tokens.turns))
        for (_, _, sessions), advantage in zip(rows, advantages, strict=True)
        for tokens in sessions
        if advantage and tokens.written
    ]
