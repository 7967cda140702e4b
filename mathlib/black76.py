"""Black-76 for options on futures: price, implied volatility and Greeks.

All arguments are array-like float64 and broadcast against each other (``is_call`` is boolean).
``forward`` and ``strike`` are in the contract's quote unit, ``t_years`` in years, ``vol`` is the
annualised decimal volatility, ``rate`` is continuously compounded; results are arrays of the
broadcast shape.  A bad value gives NaN (and a status where the function has one), never an
exception; a wrong dtype raises ``TypeError``, shapes that do not broadcast ``ValueError``.

Prices are computed on the out-of-the-money side.  With ``k = |ln(F/K)|``, ``s = vol sqrt(T)``,
``h = k/s``, ``t = s/2`` and Mills' ratio ``M(x) = N(-x)/n(x) = sqrt(pi/2) erfcx(x/sqrt(2))``, the
undiscounted out-of-the-money price over ``min(F, K)`` is ::

    c = N(t - h) - e^k N(-t - h) = n(h - t) [M(h - t) - M(h + t)]

which keeps its relative precision down to the smallest floats.

References
----------
.. [1] F. Black, "The pricing of commodity contracts", J. Financial Economics 3 (1976), eq. 16.
.. [2] P. Jaeckel, "Let's be rational", Wilmott (2015): the out-of-the-money normalisation, the
   erfcx form, Householder steps on the logarithm of the price.
.. [3] J. Choi, J. Huh, N. Su, "Tighter 'uniform bounds for Black-Scholes implied volatility' and
   the applications to root-finding", Operations Research Letters 57 (2024): bounds of the
   volatility from bounds of the delta.
.. [4] E. G. Haug, "The Complete Guide to Option Pricing Formulas" (2007), ch. 2: the Greeks.
"""

from __future__ import annotations

from enum import IntEnum
from functools import cache, cached_property
from typing import Any

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

from mathlib._arrays import BoolArray, FloatArray, StatusArray, as_bool, as_float, in_blocks

__all__ = [
    "Status",
    "charm",
    "color",
    "delta",
    "gamma",
    "greeks",
    "implied_vol",
    "price",
    "price_and_greeks",
    "rho",
    "speed",
    "theta",
    "vanna",
    "vega",
    "vomma",
]

_SQRT_HALF = float(np.sqrt(0.5))
_SQRT_2PI = float(np.sqrt(2.0 * np.pi))
_DENSITY_AT_0 = 1.0 / _SQRT_2PI
_LOG_SQRT_2PI = float(np.log(_SQRT_2PI))
_SQRT_HALF_PI = float(np.sqrt(0.5 * np.pi))
_EPS = float(np.finfo(np.float64).eps)
_SMALLEST = float(np.finfo(np.float64).smallest_subnormal)
#: Half the total standard deviation below which differences of Mills' ratios lose digits.
_SMALL_T = 0.02
#: Past this many standard deviations every price is 0; the bound keeps infinities out.
_FAR = 1e4


class Status(IntEnum):
    """Why an implied volatility is there or is not."""

    SOLVED = 0
    BELOW_INTRINSIC = 1  #: the price is below what exercise is worth: an arbitrage or a bad quote
    ABOVE_BOUND = 2  #: the price is at or above the forward (call) or the strike (put)
    BAD_INPUT = 3  #: NaN, infinite, or a forward or strike that is not positive
    EXPIRED = 4  #: no time is left
    AT_INTRINSIC = 5  #: the price has no time value to the last digit: any small vol gives it
    NOT_CONVERGED = 6  #: the solver did not settle


# ---------------------------------------------------------------------------------- arguments


def option_arguments(
    forward: ArrayLike,
    strike: ArrayLike,
    t_years: ArrayLike,
    vol: ArrayLike,
    rate: ArrayLike,
    is_call: ArrayLike,
) -> tuple[NDArray[Any], ...]:
    """The arguments that describe an option as arrays of the right dtype, in this order."""
    return (
        as_float("forward", forward),
        as_float("strike", strike),
        as_float("t_years", t_years),
        as_float("vol", vol),
        as_float("rate", rate),
        as_bool("is_call", is_call),
    )


# -------------------------------------------------------------------------------------- price


def _log_ratio(low: FloatArray, gap: FloatArray) -> FloatArray:
    """``ln((low + gap)/low) >= 0``, relatively precise when the gap is small."""
    return np.log1p(gap / low)


def _mills(x: FloatArray) -> FloatArray:
    """Mills' ratio ``N(-x)/n(x)``."""
    return np.asarray(_SQRT_HALF_PI * scipy.special.erfcx(_SQRT_HALF * x))


def _mills_gap(h: FloatArray, t: FloatArray) -> FloatArray:
    """``M(h - t) - M(h + t)`` for ``0 <= t < _SMALL_T``, to full relative precision.

    There the difference of the two would lose digits; this is its Taylor series about ``h`` with
    ``M' = h M - 1`` and ``M^(n+2) = h M^(n+1) + (n + 1) M^(n)``.
    """
    m0 = _mills(h)
    m1 = h * m0 - 1.0
    m2 = h * m1 + m0
    m3 = h * m2 + 2.0 * m1
    m4 = h * m3 + 3.0 * m2
    m5 = h * m4 + 4.0 * m3
    m6 = h * m5 + 5.0 * m4
    m7 = h * m6 + 6.0 * m5
    t2 = t * t
    return -2.0 * t * (m1 + t2 / 6.0 * (m3 + t2 / 20.0 * (m5 + t2 / 42.0 * m7)))


def _usable(
    forward: FloatArray, strike: FloatArray, t_years: FloatArray, rate: FloatArray
) -> BoolArray:
    """Rows whose market values make sense; the clock may stand at 0."""
    return np.asarray(
        (forward > 0.0)
        & (strike > 0.0)
        & (t_years >= 0.0)
        & np.isfinite(forward)
        & np.isfinite(strike)
        & np.isfinite(t_years)
        & np.isfinite(rate)
    )


class _Terms:
    """Price and Greeks [4]_ of one block of rows, with what they share computed once.

    All of them rest on ``v = F n(d1) = K n(d2)`` and on two tails in money, ``F N(-|d1|)`` and
    ``K N(-|d2|)``, which are ``v`` times Mills' ratios.  Tails are taken at positive arguments and
    reflected by ``N(x) = 1 - N(-x)``, so that neither they nor their complements cancel.  In the
    terms of the module's notes ``d1, d2`` are ``h + t, h - t`` where ``F >= K``, else ``t - h,
    -h - t``.

    Each attribute is computed when it is first asked for.  A row without a price or without
    Greeks holds anything here; `evaluate_block` makes it NaN.
    """

    def __init__(
        self,
        forward: FloatArray,
        strike: FloatArray,
        t_years: FloatArray,
        vol: FloatArray,
        rate: FloatArray,
        is_call: BoolArray,
    ) -> None:
        self.forward, self.t_years, self.vol, self.rate = forward, t_years, vol, rate
        self.call = is_call.astype(np.float64)
        self.sqrt_t = np.sqrt(t_years)
        # With s = 0 this leaves t = 0, since half of the smallest float is 0, and so no time value.
        self.s = np.maximum(vol * self.sqrt_t, _SMALLEST)
        self.forward_minus_strike = forward - strike
        self.low = np.minimum(forward, strike)
        k = _log_ratio(self.low, np.abs(self.forward_minus_strike))
        self.h = np.minimum(k / self.s, _FAR)
        self.t = 0.5 * self.s
        self.x = self.h - self.t
        self.v = self.low * np.exp(-0.5 * self.x * self.x) * _DENSITY_AT_0
        signed_h = np.copysign(self.h, self.forward_minus_strike)
        self.d1 = signed_h + self.t
        self.d2 = signed_h - self.t
        self.discount = np.exp(-rate * t_years)

    @cached_property
    def tail1(self) -> FloatArray:
        """``F N(-|d1|)`` with the sign of ``d1``."""
        return np.copysign(self.v * _mills(np.abs(self.d1)), self.d1)

    @cached_property
    def tail2(self) -> FloatArray:
        """``K N(-|d2|)`` with the sign of ``d2``."""
        return np.copysign(self.v * _mills(np.abs(self.d2)), self.d2)

    @cached_property
    def discounted_v(self) -> FloatArray:
        return self.discount * self.v

    @cached_property
    def density(self) -> FloatArray:
        """Discounted normal density at ``d1``."""
        return self.discounted_v / self.forward

    @cached_property
    def density_d2(self) -> FloatArray:
        """By how much delta falls as ``s`` grows, per unit of ``ln s``."""
        return self.density * self.d2

    @cached_property
    def half_over_t(self) -> FloatArray:
        """``d(ln s)/dT``."""
        return 0.5 / self.t_years

    @cached_property
    def price(self) -> FloatArray:
        # Out of the money: the difference of both tails, with the nearer one reflected at x < 0.
        time_value = self.low * np.signbit(self.x) - self.tail1 + self.tail2
        small = np.flatnonzero(self.t < _SMALL_T)
        if small.size:
            time_value[small] = self.v[small] * _mills_gap(self.h[small], self.t[small])
        intrinsic = np.maximum((2.0 * self.call - 1.0) * self.forward_minus_strike, 0.0)
        return self.discount * (intrinsic + time_value)

    @cached_property
    def delta(self) -> FloatArray:
        # N(d1) for a call, N(d1) - 1 for a put: a whole number and a tail.
        whole = self.call - np.signbit(self.d1)
        return self.discount * (whole - self.tail1 / self.forward)

    @cached_property
    def gamma(self) -> FloatArray:
        return self.density / (self.forward * self.s)

    @cached_property
    def vega(self) -> FloatArray:
        return self.discounted_v * self.sqrt_t

    @cached_property
    def theta(self) -> FloatArray:
        return self.rate * self.price - self.vega * self.vol * self.half_over_t

    @cached_property
    def rho(self) -> FloatArray:
        return -self.t_years * self.price

    @cached_property
    def vanna(self) -> FloatArray:
        return -self.density_d2 / self.vol

    @cached_property
    def charm(self) -> FloatArray:
        return self.rate * self.delta + self.density_d2 * self.half_over_t

    @cached_property
    def vomma(self) -> FloatArray:
        return self.vega * self.d1 * self.d2 / self.vol

    @cached_property
    def speed(self) -> FloatArray:
        return -self.gamma / self.forward * (self.d1 / self.s + 1.0)

    @cached_property
    def color(self) -> FloatArray:
        return self.gamma * (self.rate + (1.0 - self.d1 * self.d2) * self.half_over_t)


def evaluate_block(names: tuple[str, ...], *option: NDArray[Any]) -> tuple[FloatArray, ...]:
    """``price`` and Greeks of these names for flat arrays of one length, without checks."""
    forward, strike, t_years, vol, rate, _ = option
    terms = _Terms(*option)
    values: tuple[FloatArray, ...] = tuple(getattr(terms, name) for name in names)
    priced = _usable(forward, strike, t_years, rate) & (vol >= 0.0) & np.isfinite(vol)
    alive = priced & (vol > 0.0) & (t_years > 0.0)
    if alive.all():
        return values
    return tuple(
        np.where(priced if name == "price" else alive, array, np.nan)
        for name, array in zip(names, values, strict=True)
    )


def price_block(*option: NDArray[Any]) -> FloatArray:
    """`price` of flat arrays of one length, without checks of dtype and shape."""
    return evaluate_block(("price",), *option)[0]


def _evaluate(names: tuple[str, ...], *option: ArrayLike) -> dict[str, FloatArray]:
    values = in_blocks(
        lambda *block: evaluate_block(names, *block),
        (np.float64,) * len(names),
        *option_arguments(*option),
    )
    return dict(zip(names, values, strict=True))


def price(
    forward: ArrayLike,
    strike: ArrayLike,
    t_years: ArrayLike,
    vol: ArrayLike,
    rate: ArrayLike = 0.0,
    is_call: ArrayLike = True,
) -> FloatArray:
    """Price of a European option on a future, in the quote unit [1]_.

    Parameters
    ----------
    forward, strike : array_like
        Futures price and strike, in the quote unit, positive.
    t_years : array_like
        Time to expiry; at 0 the price is the intrinsic value.
    vol : array_like
        Annualised decimal volatility; at 0 the price is the discounted intrinsic value.
    rate : array_like
        Continuously compounded rate.
    is_call : array_like of bool
        True for a call, False for a put.

    Returns
    -------
    ndarray
        NaN where an input is NaN, infinite or of the wrong sign.

    Raises
    ------
    TypeError
        An argument does not hold real numbers (``is_call``: booleans).
    ValueError
        The shapes do not broadcast.
    """
    return _evaluate(("price",), forward, strike, t_years, vol, rate, is_call)["price"]


# --------------------------------------------------------------------------------- implied vol


_GUESS_KNOTS = 2048
_GUESS_END = 6.6


@cache
def _guess_table() -> FloatArray:
    """The inverse of the normal model and its lognormal corrections on a uniform grid.

    With ``c~ = c e^(-k/2)`` the price in powers of ``t`` is ::

        ln c~ = ln(-2t n(h) M1) + t^2 (m3/6 - 1/2) + t^4 (m5/120 - m3^2/72) + ...

    where ``Mj`` is the j-th derivative of ``M`` at ``h`` and ``mj = Mj/M1``.  The first term is
    the normal model, whose inverse depends on ``k/c~`` alone; the next two become a correction
    ``alpha t^2 + beta t^4`` of its logarithm.

    Returns
    -------
    ndarray, shape (3, _GUESS_KNOTS)
        ``s/(k + sqrt(2 pi) c~)`` of the normal model (1 at the money, ``1/h`` far out), ``alpha``
        and ``beta`` against ``ln(1 + ln(1 + k/c~))``.
    """
    h = np.concatenate(([0.0], np.geomspace(1e-4, 36.5, 4000)))
    derivatives = [_mills(h), h * _mills(h) - 1.0]
    for order in range(4):
        derivatives.append(h * derivatives[-1] + (order + 1) * derivatives[-2])
    # Far out the recurrence cancels and the asymptotic series of M, derived term by term, holds.
    far = np.flatnonzero(h > 8.0)
    for n, values in enumerate(derivatives):
        series = np.ones(far.size)
        for i in range(8, 0, -1):
            series = 1.0 - (n + 2 * i - 1) * (n + 2 * i) / (2.0 * i) / h[far] ** 2 * series
        values[far] = series * scipy.special.factorial(n) * (-1.0) ** n / h[far] ** (n + 1)
    _, m1, m2, m3, _, m5 = derivatives
    # First and second derivative of the first term in ln s at fixed k.
    slope, bend = -1.0 / m1, -h * m2 / m1**2
    a = m3 / m1 / 6.0 - 0.5
    b = m5 / m1 / 120.0 - (m3 / m1) ** 2 / 72.0
    alpha = -a / slope
    beta = -(0.5 * bend * alpha**2 + 2.0 * a * alpha + b) / slope
    per_stdev = -np.exp(-0.5 * h * h) / _SQRT_2PI * m1
    knots = np.log1p(np.log1p(h / per_stdev))
    grid = np.linspace(0.0, _GUESS_END, _GUESS_KNOTS)
    columns = 1.0 / (h + _SQRT_2PI * per_stdev), alpha, beta
    return np.stack([np.interp(grid, knots, column) for column in columns])


def _first_guess(k: FloatArray, c: FloatArray, complement: FloatArray) -> FloatArray:
    """Total standard deviation to within a few per cent.

    Up to ``c = 1/2`` the corrected normal model; above it the lower bound from the chord of the
    delta between ``s = sqrt(2k)`` and infinity, where it is a concave function of the price [3]_.
    """
    normal_price = c * np.exp(-0.5 * k)
    position = np.log1p(np.log1p(k / np.maximum(normal_price, 1e-300)))
    position *= (_GUESS_KNOTS - 1) / _GUESS_END
    left = np.minimum(position.astype(np.intp), _GUESS_KNOTS - 2)
    share = position - left
    normal, alpha, beta = (
        column.take(left) * (1.0 - share) + column.take(left + 1) * share
        for column in _guess_table()
    )
    guess: FloatArray = (k + _SQRT_2PI * normal_price) * normal
    t2 = 0.25 * guess * guess
    guess *= np.exp(t2 * (alpha + t2 * beta))
    high = c > 0.5
    if high.any():
        kh = k[high]
        chord = 1.0 + scipy.special.erfcx(np.sqrt(kh))  # 2 (1 - c(sqrt(2k)))
        d1 = -scipy.special.ndtri(complement[high] / chord)
        guess[high] = d1 + np.sqrt(d1 * d1 + 2.0 * kh)
    return guess


def _householder(
    k: FloatArray, s: FloatArray, sign: FloatArray, log_target: FloatArray
) -> FloatArray:
    """One third-order Householder step on ``ln c`` (``sign`` +1) or ``ln(1 - c)`` (-1).

    Both have the derivative ``sign n(d1)`` and so the same step: with ``y = c`` or ``1 - c``,
    ``q = y'/y``, ``p = c''/c' = d1 d2/s`` and ``p' = -3 k^2/s^4 - 1/4``.
    """
    h = k / s
    t = 0.5 * s
    d1 = t - h
    d2 = -t - h
    first = _mills(-sign * d1) - sign * _mills(-d2)
    small = t < _SMALL_T
    if small.any():
        first[small] = _mills_gap(h[small], t[small])
    error = np.log(first) - 0.5 * d1 * d1 - _LOG_SQRT_2PI - log_target
    q = sign / first
    p = d1 * d2 / s
    h_s2 = (h / s) ** 2
    newton = -error / q
    halley = p - q
    third = p * p - 3.0 * h_s2 - 0.25 + q * (2.0 * q - 3.0 * p)
    step = newton * (1.0 + 0.5 * halley * newton) / (1.0 + newton * (halley + third * newton / 6.0))
    return np.asarray(np.clip(s + step, 0.5 * s, 2.0 * s))


#: Relative step after which the next one would be below 1e-13.
_SETTLED = 3e-4


def _solve_normalised(
    k: FloatArray, c: FloatArray, complement: FloatArray
) -> tuple[FloatArray, BoolArray]:
    """Total standard deviation of a normalised price ``c`` and its complement ``1 - c``.

    A row rests once its last relative step was below 3e-4: the steps are of fourth order, so what
    is left is rounding.  Each row stops by its own step, whatever the rest of the batch does.
    """
    s = _first_guess(k, c, complement)
    high = c > 0.5
    sign = np.where(high, -1.0, 1.0)
    log_target = np.log(np.where(high, complement, c))
    before = s
    s = _householder(k, s, sign, log_target)
    open_rows = np.flatnonzero(~(np.abs(s - before) <= _SETTLED * s))
    for _ in range(6):
        if not open_rows.size:
            break
        before = s[open_rows]
        after = _householder(k[open_rows], before, sign[open_rows], log_target[open_rows])
        s[open_rows] = after
        open_rows = open_rows[~(np.abs(after - before) <= _SETTLED * after)]
    settled = np.ones(s.shape, np.bool_)
    settled[open_rows] = False
    return s, settled


def implied_vol_block(
    price: FloatArray,
    forward: FloatArray,
    strike: FloatArray,
    t_years: FloatArray,
    rate: FloatArray,
    is_call: BoolArray,
) -> tuple[FloatArray, StatusArray]:
    """`implied_vol` of flat arrays of one length, without checks of dtype and shape."""
    undiscounted = price * np.exp(rate * t_years)
    low = np.minimum(forward, strike)
    high = np.maximum(forward, strike)
    bound = np.where(is_call, forward, strike)
    intrinsic = np.maximum(np.where(is_call, forward - strike, strike - forward), 0.0)
    time_value = undiscounted - intrinsic
    # An in-the-money time value below this is the rounding of the price and of F - K.
    noise = np.where(intrinsic > 0.0, 4.0 * _EPS * high, 0.0)
    c = time_value / low

    status = np.zeros(price.shape, np.int8)
    status[bound - undiscounted <= 4.0 * _EPS * bound] = Status.ABOVE_BOUND
    status[(time_value <= noise) | (c == 0.0)] = Status.AT_INTRINSIC
    status[time_value < -noise] = Status.BELOW_INTRINSIC
    status[t_years <= 0.0] = Status.EXPIRED
    usable = _usable(forward, strike, np.abs(t_years), rate) & np.isfinite(undiscounted)
    status[~usable] = Status.BAD_INPUT

    vol = np.full(price.shape, np.nan)
    solvable = status == Status.SOLVED
    everything = bool(solvable.all())
    rows = slice(None) if everything else np.flatnonzero(solvable)
    complement = (bound[rows] - undiscounted[rows]) / low[rows]
    s, settled = _solve_normalised(
        _log_ratio(low[rows], high[rows] - low[rows]), c[rows], complement
    )
    vol[rows] = np.where(settled, s / np.sqrt(t_years[rows]), np.nan)
    if not settled.all():
        status[rows] = np.where(settled, Status.SOLVED, Status.NOT_CONVERGED)
    return vol, status


def implied_vol(
    price: ArrayLike,
    forward: ArrayLike,
    strike: ArrayLike,
    t_years: ArrayLike,
    rate: ArrayLike = 0.0,
    is_call: ArrayLike = True,
) -> tuple[FloatArray, StatusArray]:
    """Black-76 volatility of European option prices.

    The relative error is below 1e-12 wherever the price's own rounding allows it, from prices of
    1e-200 of the forward to prices next to their upper bound.

    Parameters
    ----------
    price : array_like
        Option price in the quote unit, discounted (as traded).
    forward, strike, t_years, rate, is_call : array_like
        As in `price`.

    Returns
    -------
    vol : ndarray of float64
        Annualised decimal volatility; NaN where ``status`` is not ``Status.SOLVED``.
    status : ndarray of int8
        A `Status`.  A price equal to its intrinsic value (an out-of-the-money price of 0) holds
        no volatility and is ``AT_INTRINSIC``.  In the money, and at the upper bound, "equal"
        means to within four units of the last digit of the forward or strike.

    Raises
    ------
    TypeError
        An argument does not hold real numbers (``is_call``: booleans).
    ValueError
        The shapes do not broadcast.

    Notes
    -----
    Out-of-the-money normalisation and Householder steps on the logarithm of the price, or of its
    distance to the upper bound where that is the smaller number [2]_, from a guess that is within
    a few per cent everywhere (one or two steps for all but the most extreme prices).
    """
    vol, status = in_blocks(
        implied_vol_block,
        (np.float64, np.int8),
        as_float("price", price),
        as_float("forward", forward),
        as_float("strike", strike),
        as_float("t_years", t_years),
        as_float("rate", rate),
        as_bool("is_call", is_call),
    )
    return vol, status


# -------------------------------------------------------------------------------------- Greeks


_GREEKS = ("delta", "gamma", "vega", "theta", "rho", "vanna", "charm")
_FURTHER_GREEKS = ("vomma", "speed", "color")


def greeks(
    forward: ArrayLike,
    strike: ArrayLike,
    t_years: ArrayLike,
    vol: ArrayLike,
    rate: ArrayLike = 0.0,
    is_call: ArrayLike = True,
) -> dict[str, FloatArray]:
    """All Greeks of a European option on a future in one pass [4]_.

    Arguments are those of `price`.

    Returns
    -------
    dict of str to ndarray
        ``delta gamma vega theta rho vanna charm vomma speed color``, each as the function of that
        name gives it.  NaN where an input is NaN, infinite or not positive (time and vol
        included: at expiry the Greeks are not defined); ``rate`` may have any sign.
    """
    return _evaluate(_GREEKS + _FURTHER_GREEKS, forward, strike, t_years, vol, rate, is_call)


def price_and_greeks(
    forward: ArrayLike,
    strike: ArrayLike,
    t_years: ArrayLike,
    vol: ArrayLike,
    rate: ArrayLike = 0.0,
    is_call: ArrayLike = True,
) -> dict[str, FloatArray]:
    """Price, delta, gamma, vega, theta, rho, vanna and charm in one pass [4]_.

    Arguments and errors are those of `price`.

    Returns
    -------
    dict of str to ndarray
        ``price delta gamma vega theta rho vanna charm``, each as the function of that name gives
        it, to the last digit: at expiry there is a price, the Greeks are NaN.
    """
    return _evaluate(("price", *_GREEKS), forward, strike, t_years, vol, rate, is_call)


def delta(
    forward: ArrayLike,
    strike: ArrayLike,
    t_years: ArrayLike,
    vol: ArrayLike,
    rate: ArrayLike = 0.0,
    is_call: ArrayLike = True,
) -> FloatArray:
    """``dV/dF``, per quote unit of the future.

    Arguments, NaN and errors as in `greeks`.
    """
    return _evaluate(("delta",), forward, strike, t_years, vol, rate, is_call)["delta"]


def gamma(
    forward: ArrayLike,
    strike: ArrayLike,
    t_years: ArrayLike,
    vol: ArrayLike,
    rate: ArrayLike = 0.0,
    is_call: ArrayLike = True,
) -> FloatArray:
    """``d2V/dF2``, per quote unit squared.

    Arguments, NaN and errors as in `greeks`.
    """
    return _evaluate(("gamma",), forward, strike, t_years, vol, rate, is_call)["gamma"]


def vega(
    forward: ArrayLike,
    strike: ArrayLike,
    t_years: ArrayLike,
    vol: ArrayLike,
    rate: ArrayLike = 0.0,
    is_call: ArrayLike = True,
) -> FloatArray:
    """``dV/dvol``, per 1.00 of volatility.

    Arguments, NaN and errors as in `greeks`.
    """
    return _evaluate(("vega",), forward, strike, t_years, vol, rate, is_call)["vega"]


def theta(
    forward: ArrayLike,
    strike: ArrayLike,
    t_years: ArrayLike,
    vol: ArrayLike,
    rate: ArrayLike = 0.0,
    is_call: ArrayLike = True,
) -> FloatArray:
    """``-dV/dT``, per year: what passes as the clock runs, the forward unchanged.

    Arguments, NaN and errors as in `greeks`.
    """
    return _evaluate(("theta",), forward, strike, t_years, vol, rate, is_call)["theta"]


def rho(
    forward: ArrayLike,
    strike: ArrayLike,
    t_years: ArrayLike,
    vol: ArrayLike,
    rate: ArrayLike = 0.0,
    is_call: ArrayLike = True,
) -> FloatArray:
    """``dV/drate``, per 1.00 of rate, the forward unchanged.

    Arguments, NaN and errors as in `greeks`.
    """
    return _evaluate(("rho",), forward, strike, t_years, vol, rate, is_call)["rho"]


def vanna(
    forward: ArrayLike,
    strike: ArrayLike,
    t_years: ArrayLike,
    vol: ArrayLike,
    rate: ArrayLike = 0.0,
    is_call: ArrayLike = True,
) -> FloatArray:
    """``d2V/dF dvol``, per 1.00 of volatility: the change of delta.

    Arguments, NaN and errors as in `greeks`.
    """
    return _evaluate(("vanna",), forward, strike, t_years, vol, rate, is_call)["vanna"]


def charm(
    forward: ArrayLike,
    strike: ArrayLike,
    t_years: ArrayLike,
    vol: ArrayLike,
    rate: ArrayLike = 0.0,
    is_call: ArrayLike = True,
) -> FloatArray:
    """``-d(delta)/dT``, per year: the change of delta as the clock runs.

    Arguments, NaN and errors as in `greeks`.
    """
    return _evaluate(("charm",), forward, strike, t_years, vol, rate, is_call)["charm"]


def vomma(
    forward: ArrayLike,
    strike: ArrayLike,
    t_years: ArrayLike,
    vol: ArrayLike,
    rate: ArrayLike = 0.0,
    is_call: ArrayLike = True,
) -> FloatArray:
    """``d2V/dvol2``, per 1.00 of volatility: the change of vega.

    Arguments, NaN and errors as in `greeks`.
    """
    return _evaluate(("vomma",), forward, strike, t_years, vol, rate, is_call)["vomma"]


def speed(
    forward: ArrayLike,
    strike: ArrayLike,
    t_years: ArrayLike,
    vol: ArrayLike,
    rate: ArrayLike = 0.0,
    is_call: ArrayLike = True,
) -> FloatArray:
    """``d3V/dF3``, per quote unit: the change of gamma.

    Arguments, NaN and errors as in `greeks`.
    """
    return _evaluate(("speed",), forward, strike, t_years, vol, rate, is_call)["speed"]


def color(
    forward: ArrayLike,
    strike: ArrayLike,
    t_years: ArrayLike,
    vol: ArrayLike,
    rate: ArrayLike = 0.0,
    is_call: ArrayLike = True,
) -> FloatArray:
    """``-d(gamma)/dT``, per year: the change of gamma as the clock runs.

    Arguments, NaN and errors as in `greeks`.
    """
    return _evaluate(("color",), forward, strike, t_years, vol, rate, is_call)["color"]
