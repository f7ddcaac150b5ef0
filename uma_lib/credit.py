"""Session rewards and stratified group advantages.

Sources: the reward, the trajectory return (eq. 4) and the task-stratified advantages are those of UMA
(arXiv 2602.18493). Deviations from the paper and from its public code:

- A session without tool calls has tool reward 1, so an idle ``list`` can only lose reward, never earn any.
- A group of one has advantage 0 (the public code keeps its raw reward).

What an answer is worth says `scoring.score`.
"""

import math
from collections.abc import Hashable, Sequence


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


def group_advantages(
    rewards: Sequence[float], groups: Sequence[Hashable], std_floor: float = 0.0
) -> list[float]:
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
