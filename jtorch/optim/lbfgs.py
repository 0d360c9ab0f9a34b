"""L-BFGS with an optional line search. It reads the loss, so its step runs eagerly."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jtorch
from jtorch._tensor import Tensor
from jtorch.optim.optimizer import Optimizer, check


def _cubic_interpolate(x1: float, f1: float, g1: float, x2: float, f2: float, g2: float,
                       bounds: tuple[float, float] | None = None) -> float:
    """The minimum of the cubic through two points with slopes, within bounds; their middle if it has none."""
    low, high = bounds if bounds is not None else (min(x1, x2), max(x1, x2))
    d1 = g1 + g2 - 3 * (f1 - f2) / (x1 - x2)
    square = d1 ** 2 - g1 * g2
    if square < 0:
        return (low + high) / 2.0
    d2 = square ** 0.5
    if x1 <= x2:
        at = x2 - (x2 - x1) * ((g2 + d2 - d1) / (g2 - g1 + 2 * d2))
    else:
        at = x1 - (x1 - x2) * ((g1 + d2 - d1) / (g1 - g2 + 2 * d2))
    return min(max(at, low), high)


Point = tuple[float, float, Tensor, float]  # step, loss, gradient, slope


def _strong_wolfe(evaluate: Callable[[float], tuple[float, Tensor]], t: float, d: Tensor, f: float, g: Tensor,
                  slope: float, c1: float = 1e-4, c2: float = 0.9, tolerance_change: float = 1e-9,
                  max_ls: int = 25) -> tuple[float, Tensor, float, int]:
    """A step along `d` that meets the strong Wolfe conditions: (loss, gradient, step, evaluations)."""
    d_norm = float(d.abs().max())

    def at(t: float) -> Point:
        f_new, g_new = evaluate(t)
        return t, f_new, g_new, float(g_new.dot(d))

    start: Point = (0.0, f, g, slope)
    previous, present = start, at(t)
    evaluations, iteration, done = 1, 0, False
    bracket: list[Point] = []
    while iteration < max_ls:
        t, f_new, _, slope_new = present
        if f_new > f + c1 * t * slope or (iteration > 1 and f_new >= previous[1]):
            bracket = [previous, present]
            break
        if abs(slope_new) <= -c2 * slope:
            bracket, done = [present], True
            break
        if slope_new >= 0:
            bracket = [previous, present]
            break
        bounds = (t + 0.01 * (t - previous[0]), t * 10)
        following = _cubic_interpolate(previous[0], previous[1], previous[3], t, f_new, slope_new, bounds)
        previous, present = present, at(following)
        evaluations += 1
        iteration += 1
    if iteration == max_ls:
        bracket = [start, present]
    stuck = False
    low, high = (0, 1) if bracket[0][1] <= bracket[-1][1] else (1, 0)
    while not done and iteration < max_ls:
        ends = [p[0] for p in bracket]
        if abs(ends[1] - ends[0]) * d_norm < tolerance_change:
            break
        (x1, f1, _, s1), (x2, f2, _, s2) = bracket
        t = _cubic_interpolate(x1, f1, s1, x2, f2, s2)
        margin = 0.1 * (max(ends) - min(ends))
        if min(max(ends) - t, t - min(ends)) < margin:  # close to an end: at the second time, move away from it
            if stuck or t >= max(ends) or t <= min(ends):
                t = max(ends) - margin if abs(t - max(ends)) < abs(t - min(ends)) else min(ends) + margin
                stuck = False
            else:
                stuck = True
        else:
            stuck = False
        present = at(t)
        evaluations += 1
        iteration += 1
        if present[1] > f + c1 * t * slope or present[1] >= bracket[low][1]:
            bracket[high] = present
            low, high = (0, 1) if bracket[0][1] <= bracket[1][1] else (1, 0)
        else:
            if abs(present[3]) <= -c2 * slope:
                done = True
            elif present[3] * (bracket[high][0] - bracket[low][0]) >= 0:
                bracket[high] = bracket[low]
            bracket[low] = present
    t, f_new, g_new, _ = bracket[low]
    return f_new, g_new, t, evaluations


class LBFGS(Optimizer):
    """Limited-memory BFGS; `step` needs a closure that computes the loss again."""

    def __init__(self, params: Any, lr: float | Tensor = 1, max_iter: int = 20, max_eval: int | None = None,
                 tolerance_grad: float = 1e-7, tolerance_change: float = 1e-9, history_size: int = 100,
                 line_search_fn: str | None = None) -> None:
        check(not isinstance(lr, Tensor) or lr.numel() == 1, "Tensor lr must be 1-element")
        check(isinstance(lr, Tensor) or lr >= 0.0, f"Invalid learning rate: {lr}")
        super().__init__(params, {
            "lr": lr, "max_iter": max_iter, "max_eval": max_iter * 5 // 4 if max_eval is None else max_eval,
            "tolerance_grad": tolerance_grad, "tolerance_change": tolerance_change, "history_size": history_size,
            "line_search_fn": line_search_fn})
        check(len(self.param_groups) == 1, "LBFGS doesn't support per-parameter options (parameter groups)")
        self._params: list[Tensor] = self.param_groups[0]["params"]

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._params = self.param_groups[0]["params"]

    def _flat_gradient(self) -> Tensor:
        parts = [jtorch.zeros(p.numel(), dtype=p.dtype) if p.grad is None else p.grad.reshape(-1) for p in self._params]
        return jtorch.cat(parts, 0)

    def _move(self, step: float, direction: Tensor) -> None:
        start = 0
        for p in self._params:
            p.add_(direction[start:start + p.numel()].view_as(p), alpha=step)
            start += p.numel()

    def step(self, closure: Callable[[], Any]) -> Any:  # type: ignore[override]
        """Iterate until converged or `max_iter` is reached; returns the first loss."""
        with jtorch.no_grad():
            return self._iterate(lambda: self.run_closure(closure))

    def _direction(self, state: dict[str, Any], gradient: Tensor, history_size: int) -> Tensor:
        """The approximate inverse Hessian times the negative gradient."""
        if state["n_iter"] == 1:
            state.update(old_dirs=[], old_stps=[], ro=[], H_diag=1)
            return gradient.neg()
        y = gradient.sub(state["prev_flat_grad"])
        s = state["d"].mul(state["t"])
        ys = float(y.dot(s))
        dirs, steps, ro = state["old_dirs"], state["old_stps"], state["ro"]
        if ys > 1e-10:
            if len(dirs) == history_size:
                for history in (dirs, steps, ro):
                    history.pop(0)
            dirs.append(y)
            steps.append(s)
            ro.append(1.0 / ys)
            state["H_diag"] = ys / float(y.dot(y))
        al = state.setdefault("al", [None] * history_size)
        q = gradient.neg()
        for i in reversed(range(len(dirs))):
            al[i] = float(steps[i].dot(q)) * ro[i]
            q = q.add(dirs[i], alpha=-al[i])
        r = q.mul(state["H_diag"])
        for i in range(len(dirs)):
            r = r.add(steps[i], alpha=al[i] - float(dirs[i].dot(r)) * ro[i])
        return r

    def _iterate(self, closure: Callable[[], Any]) -> Any:
        group = self.param_groups[0]
        lr = float(group["lr"])
        state = self.state[self._params[0]]
        state.setdefault("func_evals", 0)
        state.setdefault("n_iter", 0)
        first_loss = closure()
        loss, evaluations = float(first_loss), 1
        state["func_evals"] += 1
        gradient = self._flat_gradient()
        converged = float(gradient.abs().max()) <= group["tolerance_grad"]
        iteration = 0
        while not converged and iteration < group["max_iter"]:
            iteration += 1
            state["n_iter"] += 1
            d = self._direction(state, gradient, group["history_size"])
            state["prev_flat_grad"] = gradient.clone()
            before = loss
            t = min(1.0, 1.0 / float(gradient.abs().sum())) * lr if state["n_iter"] == 1 else lr
            slope = float(gradient.dot(d))
            state.update(d=d, t=t, prev_loss=before)
            if slope > -group["tolerance_change"]:
                break
            used = 0
            if group["line_search_fn"] is not None:
                if group["line_search_fn"] != "strong_wolfe":
                    raise RuntimeError("only 'strong_wolfe' is supported")
                loss, gradient, t, used = self._search(closure, t, d, loss, gradient, slope,
                                                       group["max_eval"] - evaluations)
                self._move(t, d)
                converged = float(gradient.abs().max()) <= group["tolerance_grad"]
            else:
                self._move(t, d)
                if iteration != group["max_iter"]:
                    loss, used = float(closure()), 1
                    gradient = self._flat_gradient()
                    converged = float(gradient.abs().max()) <= group["tolerance_grad"]
            state["t"] = t
            evaluations += used
            state["func_evals"] += used
            if (evaluations >= group["max_eval"] or float(d.mul(t).abs().max()) <= group["tolerance_change"]
                    or abs(loss - before) < group["tolerance_change"]):
                break
        return first_loss

    def _search(self, closure: Callable[[], Any], t: float, d: Tensor, loss: float, gradient: Tensor, slope: float,
                max_ls: int) -> tuple[float, Tensor, float, int]:
        origin = [p.clone() for p in self._params]

        def evaluate(t: float) -> tuple[float, Tensor]:
            self._move(t, d)
            f = float(closure())
            g = self._flat_gradient()
            for p, x in zip(self._params, origin):
                p.copy_(x)
            return f, g
        return _strong_wolfe(evaluate, t, d, loss, gradient, slope, max_ls=max_ls)
