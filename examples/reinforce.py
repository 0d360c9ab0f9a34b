"""Balance a pole on a cart with REINFORCE: the policy gradient of whole episodes.

    python -m jtorch examples/reinforce.py         (or, with PyTorch, python examples/reinforce.py)

The environment is the cart and pole of Barto, Sutton and Anderson (1983), written out below. Prints loss and length of
the episodes; writes the lengths and a plot of the policy as examples/out/reinforce.png.
"""

import argparse
import math
from pathlib import Path

import matplotlib
import torch
from torch import nn
from torch.distributions import Categorical
from tqdm import tqdm

matplotlib.use("Agg")
import matplotlib.pyplot as plt


class CartPole:
    """A state is position, speed, angle and its speed; an action pushes to the left (0) or right (1)."""

    GRAVITY, CART, POLE, HALF_LENGTH, FORCE, STEP = 9.8, 1.0, 0.1, 0.5, 10.0, 0.02
    MAX_POSITION, MAX_ANGLE, MAX_STEPS = 2.4, 12 * math.pi / 180, 200

    def reset(self):
        self.state = (torch.rand(4) * 0.1 - 0.05).tolist()
        self.steps = 0
        return self.state

    def step(self, action):
        """The new state, the reward, and whether the episode is over."""
        x, speed, angle, turn = self.state
        force = self.FORCE if action == 1 else -self.FORCE
        mass, moment = self.CART + self.POLE, self.POLE * self.HALF_LENGTH
        pushed = (force + moment * turn ** 2 * math.sin(angle)) / mass
        turning = (self.GRAVITY * math.sin(angle) - math.cos(angle) * pushed) / (
            self.HALF_LENGTH * (4 / 3 - self.POLE * math.cos(angle) ** 2 / mass))
        acceleration = pushed - moment * turning * math.cos(angle) / mass
        self.state = [x + self.STEP * speed, speed + self.STEP * acceleration,
                      angle + self.STEP * turn, turn + self.STEP * turning]
        self.steps += 1
        fallen = abs(self.state[0]) > self.MAX_POSITION or abs(self.state[2]) > self.MAX_ANGLE
        return self.state, 1.0, fallen or self.steps >= self.MAX_STEPS


class Policy(nn.Module):
    def __init__(self, hidden=64, dropout=0.1):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, hidden), nn.Dropout(dropout), nn.ReLU(), nn.Linear(hidden, 2))

    def forward(self, state):
        return Categorical(logits=self.net(state))


def play(environment, policy):
    """One episode: the log-probabilities of the actions taken, and the rewards."""
    state, over = environment.reset(), False
    log_probs, rewards = [], []
    while not over:
        distribution = policy(torch.tensor(state))
        action = distribution.sample()
        log_probs.append(distribution.log_prob(action))
        state, reward, over = environment.step(action.item())
        rewards.append(reward)
    return torch.stack(log_probs), rewards


def returns_of(rewards, gamma):
    """What follows each step, discounted, scaled to mean 0 and deviation 1."""
    total, found = 0.0, []
    for reward in reversed(rewards):
        total = reward + gamma * total
        found.insert(0, total)
    returns = torch.tensor(found)
    return (returns - returns.mean()) / (returns.std() + 1e-6)


def plot(lengths, policy, path):
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.5), layout="constrained")
    left.plot(lengths, color="lightsteelblue")
    window = min(20, len(lengths))
    means = torch.tensor(lengths).float().unfold(0, window, 1).mean(1)
    left.plot(range(window - 1, len(lengths)), means.tolist(), label=f"mean of {window}")
    left.set(xlabel="episode", ylabel="steps", title="Length of the episodes")
    left.legend()
    angle, turn = torch.meshgrid(torch.linspace(-0.21, 0.21, 60), torch.linspace(-2, 2, 60), indexing="ij")
    states = torch.stack([torch.zeros_like(angle), torch.zeros_like(angle), angle, turn], -1)
    policy.eval()
    with torch.no_grad():
        shown = policy(states).probs[..., 1]
    picture = right.imshow(shown.T, origin="lower", extent=(-12, 12, -2, 2), aspect="auto", cmap="RdBu", vmin=0, vmax=1)
    right.set(xlabel="angle of the pole in degrees", ylabel="its speed", title="Probability of pushing to the right")
    figure.colorbar(picture)
    figure.savefig(path, dpi=110)
    print(f"picture: {path}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--episodes", type=int, default=300)
    parser.add_argument("--gamma", type=float, default=0.99)
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "out", help="where the picture goes")
    options = parser.parse_args()

    torch.manual_seed(options.seed)
    environment, policy = CartPole(), Policy()
    optimizer = torch.optim.Adam(policy.parameters(), lr=options.lr)
    lengths = []
    for episode in tqdm(range(1, options.episodes + 1), disable=None):
        log_probs, rewards = play(environment, policy)
        loss = -(log_probs * returns_of(rewards, options.gamma)).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        lengths.append(len(rewards))
        if episode <= 5 or episode % 20 == 0:
            tqdm.write(f"episode {episode:3}  loss {loss.item():.5f}  {len(rewards)} steps")
    options.out.mkdir(parents=True, exist_ok=True)
    plot(lengths, policy, options.out / "reinforce.png")


if __name__ == "__main__":
    main()
