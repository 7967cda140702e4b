"""The least-squares solver of an SVI batch: Levenberg-Marquardt over a block of slices.

Everything is in a slice's own units: x = k / s and W = w / s^2, s the at-the-money total standard
deviation, so that one prior serves every market and expiry.  Coordinates `theta`, (5, slices):
log W_min, m / s, log(sigma / s) and the logits of both wing slopes over Lee's bound; every value
of them is a slice with w > 0 and admissible wings.

References
----------
.. [1] De Marco, S. and Martini, C. (2009). Quasi-explicit calibration of Gatheral's SVI model.
   Zeliade white paper ZWP-0005.
.. [2] Nocedal, J. and Wright, S. (2006). Numerical Optimization, 2nd ed., ch. 10.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mathlib._svi_slice import (
    CALENDAR_MARGIN,
    LOGIT_HIGH,
    SLOPE_LIMIT,
    BoolArray,
    FloatArray,
    IntArray,
    from_coordinates,
    to_coordinates,
)

# The prior: centre and one standard deviation of log W_min, m / s, log(sigma / s) and the log of
# both wing slopes.  It is a smile of an ordinary size; in each coordinate it weighs as much as one
# quote with the slice's own error.
_PRIOR_W_MIN, _PRIOR_SIGMA, _PRIOR_SLOPE = 0.95, 1.5, 0.3
PRIOR_SD = (1.0, 1.0, 0.8, 0.8, 0.8)

# Relative error of a vol quote: assumed where quotes come without their own and are too few to show
# it; the least that is believed; and where errors that come with quotes must lie to be believed.
NOISE_GUESS, NOISE_FLOOR, _NOISE_GIVEN = 0.02, 1e-4, (2e-3, 0.3)
NOISE_FREE_STRIKES = 8  # from here on the residuals alone give the error
_GIVEN_BELIEF = 5.0  # residuals that the quotes' own errors count for

# Where the search may go.
_BOX_LOW = np.array([np.log(1e-4), -30.0, np.log(1e-2), -25.0, -25.0])[:, None]
_BOX_HIGH = np.array([np.log(1e3), 30.0, np.log(50.0), LOGIT_HIGH, LOGIT_HIGH])[:, None]

_STEP_TOLERANCE, _COST_TOLERANCE = 1e-7, 1e-8

# What the hinges aim for: more than the margins that are asked of the result.
_G_TARGET, _CALENDAR_TARGET = 6e-3, 1e-3

_STARTS = tuple((m, s) for s in (0.25, 0.8, 2.2) for m in (-1.6, -0.5, 0.5, 1.6))


@dataclass(frozen=True)
class Block:
    """Quotes of slices of one width, in units of each slice's at-the-money total deviation.

    Padding has weight 0.  `x`, `vol`, `weight`, `error`: (slices, width); the rest: (slices,).
    """

    x: FloatArray  # k / scale
    vol: FloatArray  # vol over at-the-money vol
    weight: FloatArray  # mean 1 over the slice's quotes
    error: FloatArray  # vol_error over at-the-money vol; NaN: none given
    atm_vol: FloatArray
    scale: FloatArray  # at-the-money vol times sqrt(t)
    n: FloatArray

    def take(self, keep: BoolArray | IntArray) -> Block:
        return Block(
            self.x[keep],
            self.vol[keep],
            self.weight[keep],
            self.error[keep],
            self.atm_vol[keep],
            self.scale[keep],
            self.n[keep],
        )


def start(block: Block) -> FloatArray:
    """Best of a grid over (m, sigma), each with the linear solve for the rest [1]."""
    x, vol, weight = block.x, block.vol, block.weight
    cap = SLOPE_LIMIT / block.scale
    best = np.full(block.n.size, np.inf)
    theta = np.tile(
        np.array([np.log(_PRIOR_W_MIN), 0.0, np.log(_PRIOR_SIGMA), 0.0, 0.0])[:, None],
        block.n.size,
    )
    variance = vol * vol
    # A vol error is an error of 2 vol times as much in variance.
    u = weight / (4.0 * variance)
    u0, uv = row_sum(u), row_sum(u * variance)
    ridge = NOISE_GUESS**2
    for m, sigma in _STARTS:
        y = (x - m) / sigma
        r = np.sqrt(y * y + 1.0)
        uy, ur = u * y, u * r
        # Unknowns (w at y = 0, tilt d, curvature c): w = w0 + d y + c (r - 1).
        slope0 = _PRIOR_SLOPE * sigma
        s_y, s_r = row_sum(uy), row_sum(ur) - u0
        s_yy, s_yr, s_rr = row_sum(uy * y), row_sum(uy * r) - s_y, row_sum(ur * r) - 2.0 * s_r - u0
        b_y, b_r = row_sum(uy * variance), row_sum(ur * variance) - uv
        p = ridge / slope0**2
        w0, d, c = _solve3(
            u0 + ridge, s_y, s_r, s_yy + p, s_yr, s_rr + p,
            uv + ridge, b_y, b_r + p * slope0,
        )  # fmt: skip
        left = np.clip((c - d) / sigma, 0.02, 0.9 * cap)
        right = np.clip((c + d) / sigma, 0.02, 0.9 * cap)
        least = np.clip(w0 - c + sigma * np.sqrt(left * right), 0.02, 50.0)
        trial = np.stack(
            [
                np.log(least),
                np.full(least.size, m),
                np.full(least.size, np.log(sigma)),
                np.log(left / (cap - left)),
                np.log(right / (cap - right)),
            ]
        )
        miss = _root(trial, x, block.scale) - vol
        cost = row_sum(weight * miss * miss)
        # The prior's terms in m and sigma break ties among starts that few quotes cannot tell.
        cost += ridge * ((m / PRIOR_SD[1]) ** 2 + (np.log(sigma / _PRIOR_SIGMA) / PRIOR_SD[2]) ** 2)
        better = cost < best
        best = np.where(better, cost, best)
        theta = np.where(better, trial, theta)
    return np.asarray(theta, dtype=np.float64)


def assumed_noise(block: Block) -> FloatArray:
    """Relative vol error of a quote of average weight before any fit: its own, or a guess."""
    given = np.isfinite(block.error) & (block.weight > 0.0)
    weight = np.where(given, block.weight, 0.0)
    error = np.where(given, block.error, 0.0)
    own = np.sqrt(row_sum(weight * error * error) / row_sum(weight))
    return np.where(given.any(axis=1), np.clip(own, *_NOISE_GIVEN), NOISE_GUESS)


def noise_of(theta: FloatArray, block: Block, assumed: FloatArray) -> FloatArray:
    """Relative vol error of a quote of average weight, from residuals where there are enough."""
    miss = _root(theta, block.x, block.scale) - block.vol
    squares = row_sum(block.weight * miss * miss)
    freedom = np.maximum(block.n - 5.0, 0.0)
    belief = np.maximum(NOISE_FREE_STRIKES - block.n, 0.0)
    belief += np.where(np.isfinite(block.error).any(axis=1), _GIVEN_BELIEF, 0.0)
    found = (squares + belief * assumed * assumed) / (freedom + belief)
    return np.asarray(np.clip(np.sqrt(found), NOISE_FLOOR, 1.0), dtype=np.float64)


# --- model in the slice's own units -------------------------------------------------------------


def to_raw(theta: FloatArray, scale: FloatArray) -> FloatArray:
    """Raw parameters, (5, slices), of coordinates in units of `scale`."""
    log_scale = np.log(scale)
    return np.stack(
        from_coordinates(
            [theta[0] + 2.0 * log_scale, theta[1] * scale, theta[2] + log_scale, *theta[3:]]
        )
    )


def to_theta(raw: FloatArray, scale: FloatArray) -> FloatArray:
    """Coordinates in units of `scale` of raw parameters, (5, slices)."""
    theta = to_coordinates(*raw)
    log_scale = np.log(scale)
    theta[0] -= 2.0 * log_scale
    theta[1] /= scale
    theta[2] -= log_scale
    return theta


def _slopes(theta: FloatArray, scale: FloatArray) -> tuple[FloatArray, FloatArray]:
    cap = (SLOPE_LIMIT / scale)[:, None]
    return cap / (1.0 + np.exp(-theta[3]))[:, None], cap / (1.0 + np.exp(-theta[4]))[:, None]


def _root(theta: FloatArray, x: FloatArray, scale: FloatArray) -> FloatArray:
    """Square root of w at x, (slices, width)."""
    left, right = _slopes(theta, scale)
    sigma = np.exp(theta[2])[:, None]
    y = x - theta[1][:, None]
    r = np.sqrt(y * y + sigma * sigma)
    w = 0.5 * (right - left) * y + 0.5 * (left + right) * r
    w += np.exp(theta[0])[:, None] - sigma * np.sqrt(left * right)
    return np.asarray(np.sqrt(np.maximum(w, 1e-12)), dtype=np.float64)


def root_and_jacobian(
    theta: FloatArray, x: FloatArray, scale: FloatArray
) -> tuple[FloatArray, list[FloatArray]]:
    """Square root of w at x and its derivatives to the five coordinates."""
    left, right = _slopes(theta, scale)
    least, sigma = np.exp(theta[0])[:, None], np.exp(theta[2])[:, None]
    y = x - theta[1][:, None]
    r = np.sqrt(y * y + sigma * sigma)
    half_sum, half_gap = 0.5 * (left + right), 0.5 * (right - left)
    middle = np.sqrt(left * right)
    w = half_gap * y
    w += half_sum * r
    w += least - sigma * middle
    root = np.sqrt(np.maximum(w, 1e-12))
    scale2 = 0.5 / root
    room = (scale / SLOPE_LIMIT)[:, None]
    # d slope / d logit = slope (1 - slope / cap)
    d_left, d_right = left * (1.0 - left * room), right * (1.0 - right * room)
    ratio = np.sqrt(right / left)
    jacobian = [
        least * scale2,
        -(half_gap + half_sum * y / r) * scale2,
        sigma * (half_sum * sigma / r - middle) * scale2,
        (0.5 * d_left) * (r - y - sigma * ratio) * scale2,
        (0.5 * d_right) * (r + y - sigma / ratio) * scale2,
    ]
    return root, jacobian


def _g_and_jacobian(
    theta: FloatArray, x: FloatArray, scale: FloatArray
) -> tuple[FloatArray, list[FloatArray]]:
    """Durrleman's g at x and its derivatives to the five coordinates.

    In these units k = s x, w = s^2 W, so that g = (1 - x W'/(2W))^2 - W'^2/4 (1/W + s^2/4) + W''/2.
    """
    left, right = _slopes(theta, scale)
    least, sigma = np.exp(theta[0])[:, None], np.exp(theta[2])[:, None]
    y = x - theta[1][:, None]
    r = np.sqrt(y * y + sigma * sigma)
    half_sum, half_gap = 0.5 * (left + right), 0.5 * (right - left)
    middle = np.sqrt(left * right)
    w = np.maximum(least + half_gap * y + half_sum * r - sigma * middle, 1e-12)
    slant = y / r
    w1 = half_gap + half_sum * slant
    shape = sigma * sigma / (r * r * r)
    w2 = half_sum * shape
    q = 1.0 - 0.5 * x * w1 / w
    tail = 1.0 / w + 0.25 * (scale * scale)[:, None]
    g = q * q - 0.25 * w1 * w1 * tail + 0.5 * w2
    by_w = q * x * w1 / (w * w) + 0.25 * (w1 / w) ** 2
    by_w1 = -q * x / w - 0.5 * w1 * tail
    room = (scale / SLOPE_LIMIT)[:, None]
    d_left, d_right = 0.5 * left * (1.0 - left * room), 0.5 * right * (1.0 - right * room)
    ratio = np.sqrt(right / left)
    s2 = (sigma / r) ** 2
    jacobian = [
        by_w * least,
        -by_w * w1 - by_w1 * w2 + 1.5 * w2 * slant / r,
        by_w * sigma * (half_sum * sigma / r - middle) - by_w1 * y * w2 + w2 * (1.0 - 1.5 * s2),
        d_left * (by_w * (r - y - sigma * ratio) + by_w1 * (slant - 1.0) + 0.5 * shape),
        d_right * (by_w * (r + y - sigma / ratio) + by_w1 * (slant + 1.0) + 0.5 * shape),
    ]
    return g, jacobian


# --- Levenberg-Marquardt ------------------------------------------------------------------------


@dataclass(frozen=True)
class Hinge:
    """Points where g below its target costs, and how much; (slices, points) and (slices,)."""

    x: FloatArray
    strength: FloatArray

    def take(self, keep: BoolArray | IntArray) -> Hinge:
        return Hinge(self.x[keep], self.strength[keep])


@dataclass(frozen=True)
class Floor:
    """What the fit must not go below: square root of w at x, and both wings' slopes."""

    x: FloatArray  # (slices, points)
    root: FloatArray
    strength: FloatArray
    low: FloatArray  # (5, slices): least coordinates

    @staticmethod
    def above(near: FloatArray, x: FloatArray, strength: FloatArray, scale: FloatArray) -> Floor:
        lift = 1.0 + 2.0 * CALENDAR_MARGIN
        root = _root(to_theta(near, scale), x, scale) * (1.0 + 0.5 * _CALENDAR_TARGET)
        low = np.tile(_BOX_LOW, scale.size)
        slopes = near[1] * lift * np.stack([1.0 - near[2], 1.0 + near[2]]) / SLOPE_LIMIT
        low[3:] = np.clip(np.log(slopes / (1.0 - slopes)), low[3:], LOGIT_HIGH)
        return Floor(x, root, strength, low)

    def take(self, keep: BoolArray | IntArray) -> Floor:
        return Floor(self.x[keep], self.root[keep], self.strength[keep], self.low[:, keep])


def row_sum(values: FloatArray) -> FloatArray:
    return np.asarray(values.sum(axis=1), dtype=np.float64)


def _normal_equations(
    theta: FloatArray,
    block: Block,
    prior: FloatArray,
    centre: FloatArray,
    hinge: Hinge | None,
    floor: Floor | None,
) -> tuple[FloatArray, list[list[FloatArray]], list[FloatArray]]:
    """Cost, lower triangle of J'J, and J'r, each entry of shape (slices,)."""
    root, jacobian = root_and_jacobian(theta, block.x, block.scale)
    miss = root - block.vol
    weighted = block.weight * miss
    cost = row_sum(weighted * miss)
    gradient = [row_sum(weighted * j) for j in jacobian]
    matrix = []
    for i in range(5):
        row = block.weight * jacobian[i]
        matrix.append([row_sum(row * jacobian[j]) for j in range(i + 1)])
    parts: list[tuple[FloatArray, list[FloatArray], FloatArray]] = []
    if hinge is not None:
        g, g_jacobian = _g_and_jacobian(theta, hinge.x, block.scale)
        parts.append((g - _G_TARGET, g_jacobian, hinge.strength))
    if floor is not None:
        root, root_jacobian = root_and_jacobian(theta, floor.x, block.scale)
        parts.append((root - floor.root, root_jacobian, floor.strength))
    for value, value_jacobian, strength in parts:
        squared = (strength * strength)[:, None] * (value < 0.0)
        short = squared * value
        cost = cost + row_sum(short * value)
        for i in range(5):
            gradient[i] = gradient[i] + row_sum(short * value_jacobian[i])
            row = squared * value_jacobian[i]
            for j in range(i + 1):
                matrix[i][j] = matrix[i][j] + row_sum(row * value_jacobian[j])
    for i in range(5):
        off = theta[i] - centre[i]
        cost = cost + prior[i] * off * off
        gradient[i] = gradient[i] + prior[i] * off
        matrix[i][i] = matrix[i][i] + prior[i]
    return cost, matrix, gradient


def levenberg_marquardt(
    theta: FloatArray,
    block: Block,
    noise: FloatArray,
    iterations: int,
    hinge: Hinge | None = None,
    floor: Floor | None = None,
) -> FloatArray:
    """Minimise from `theta`, (5, slices); each slice stops when its own step is small [2]."""
    low = _BOX_LOW if floor is None else floor.low
    theta = np.clip(theta, low, _BOX_HIGH)
    result = theta.copy()
    active = np.arange(noise.size)
    centre = _prior_centre(block.scale)
    prior = np.stack([(noise / sd) ** 2 for sd in PRIOR_SD])
    damping = np.full(noise.size, 1e-2)
    cost, matrix, gradient = _normal_equations(theta, block, prior, centre, hinge, floor)
    for _ in range(iterations):
        step = _damped_step(matrix, gradient, damping)
        low = _BOX_LOW if floor is None else floor.low
        trial = np.clip(theta + step, low, _BOX_HIGH)
        step = trial - theta
        new_cost, new_matrix, new_gradient = _normal_equations(
            trial, block, prior, centre, hinge, floor
        )
        better = new_cost < cost
        small = np.abs(step).max(axis=0) < _STEP_TOLERANCE
        small |= better & (cost - new_cost <= _COST_TOLERANCE * cost)
        done = small | (damping > 1e10) | ~np.isfinite(cost)
        damping = np.where(better, np.maximum(0.15 * damping, 1e-9), 6.0 * damping)
        theta = np.where(better, trial, theta)
        cost = np.where(better, new_cost, cost)
        for i in range(5):
            gradient[i] = np.where(better, new_gradient[i], gradient[i])
            for j in range(i + 1):
                matrix[i][j] = np.where(better, new_matrix[i][j], matrix[i][j])
        if done.any():
            result[:, active[done]] = theta[:, done]
            keep = np.flatnonzero(~done)
            active = active[keep]
            if active.size == 0:
                return result
            theta, prior, centre = theta[:, keep], prior[:, keep], centre[:, keep]
            cost, damping, block = cost[keep], damping[keep], block.take(keep)
            gradient = [x[keep] for x in gradient]
            matrix = [[x[keep] for x in row] for row in matrix]
            hinge, floor = hinge and hinge.take(keep), floor and floor.take(keep)
    result[:, active] = theta
    return result


def _prior_centre(scale: FloatArray) -> FloatArray:
    share = np.minimum(_PRIOR_SLOPE * scale / SLOPE_LIMIT, 0.5)
    logit = np.log(share / (1.0 - share))
    ones = np.ones_like(scale)
    return np.stack(
        [np.log(_PRIOR_W_MIN) * ones, 0.0 * ones, np.log(_PRIOR_SIGMA) * ones, logit, logit]
    )


def _damped_step(
    matrix: list[list[FloatArray]], gradient: list[FloatArray], damping: FloatArray
) -> FloatArray:
    """Solve (J'J + damping diag(J'J)) step = -J'r by Cholesky, elementwise over slices."""
    low: list[list[FloatArray]] = []
    for i in range(5):
        low.append([])
        for j in range(i + 1):
            value = matrix[i][j] * (1.0 + damping) if i == j else matrix[i][j]
            for c in range(j):
                value = value - low[i][c] * low[j][c]
            low[i].append(np.sqrt(np.maximum(value, 1e-300)) if i == j else value / low[j][j])
    half: list[FloatArray] = []
    for i in range(5):
        value = -gradient[i]
        for c in range(i):
            value = value - low[i][c] * half[c]
        half.append(value / low[i][i])
    step = [half[0]] * 5
    for i in range(4, -1, -1):
        value = half[i]
        for c in range(i + 1, 5):
            value = value - low[c][i] * step[c]
        step[i] = value / low[i][i]
    return np.stack(step)


def _solve3(
    a00: FloatArray, a01: FloatArray, a02: FloatArray, a11: FloatArray, a12: FloatArray,
    a22: FloatArray, b0: FloatArray, b1: FloatArray, b2: FloatArray,
) -> tuple[FloatArray, FloatArray, FloatArray]:  # fmt: skip
    """Solve symmetric 3 x 3 systems by Cramer's rule."""
    c00, c01, c02 = a11 * a22 - a12 * a12, a02 * a12 - a01 * a22, a01 * a12 - a02 * a11
    c11, c12, c22 = a00 * a22 - a02 * a02, a01 * a02 - a00 * a12, a00 * a11 - a01 * a01
    det = a00 * c00 + a01 * c01 + a02 * c02
    return (
        (c00 * b0 + c01 * b1 + c02 * b2) / det,
        (c01 * b0 + c11 * b1 + c12 * b2) / det,
        (c02 * b0 + c12 * b1 + c22 * b2) / det,
    )
