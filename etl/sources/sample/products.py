"""The two products of the sample vendor: what is listed, and how its invented world behaves."""

from __future__ import annotations

from dataclasses import dataclass

from etl.errors import BadInput

__all__ = ["MONTHS", "PRODUCTS", "Product", "product"]

#: CME's letters for January to December.
MONTHS = "FGHJKMNQUVXZ"


@dataclass(frozen=True, slots=True)
class Product:
    """Listing rules and the parameters of one market's invented world.

    Prices and strikes are in the market's quote unit, volatilities annualised decimals, times
    in years unless the name says otherwise.
    """

    number: int  # the market's place in instrument ids
    exchange: str
    unit_of_measure: str
    unit_quantity: int
    futures_months: str
    option_months: str
    n_futures: int
    n_expiries: int
    options_expire_with_future: bool
    strike_step: int
    far_strike_step: int  # spacing beyond near_days to expiry
    near_days: int
    strike_band: float  # strikes reach this share beyond the highest and lowest close
    symbol_scale: int  # strike -> the digits in an option's symbol
    cabinet: float  # USD 1 a contract
    base: float
    seasonal: tuple[float, ...]  # log price, January to December
    front_vol: float
    vol_level: float
    rho: float
    oi_peak: float
    oi_flat: float  # open interest is at its peak until this time to expiry, and then decays
    oi_decay: float
    oi_floor: float  # what the peak decays to
    oi_width: float  # where open interest falls to 1/e of its peak, in oi_unit
    oi_unit: str  # "sd" of the log price at expiry, or "strike"
    oi_noise: float
    whole_zone: float  # |z| within which a quote is never crossed or one-sided
    day_minutes: int  # the day session before the snapshot
    contract_volume: int  # front future, contracts a day


PRODUCTS = {
    "HE": Product(
        number=1,
        exchange="XCME",
        unit_of_measure="LBS",
        unit_quantity=40_000,
        futures_months="GJKMNQVZ",
        option_months="GJKMNQVZ",
        n_futures=8,
        n_expiries=6,
        options_expire_with_future=True,
        strike_step=1,
        far_strike_step=2,
        near_days=32,
        strike_band=0.22,
        symbol_scale=100,
        cabinet=0.0025,
        base=85.0,
        seasonal=(-0.09, -0.06, -0.03, 0.0, 0.05, 0.09, 0.09, 0.06, -0.01, -0.06, -0.09, -0.11),
        front_vol=0.26,
        vol_level=0.32,
        rho=-0.25,
        oi_peak=2600.0,
        oi_flat=0.0,
        oi_decay=0.13,
        oi_floor=40.0,
        oi_width=0.92,
        oi_unit="sd",
        oi_noise=0.25,
        whole_zone=0.5,
        day_minutes=270,
        contract_volume=18_000,
    ),
    "ZO": Product(
        number=2,
        exchange="XCBT",
        unit_of_measure="BU",
        unit_quantity=5_000,
        futures_months="HKNUZ",
        option_months=MONTHS,
        n_futures=5,
        n_expiries=6,
        options_expire_with_future=False,
        strike_step=10,
        far_strike_step=10,
        near_days=0,
        strike_band=0.22,
        symbol_scale=10,
        cabinet=0.02,
        base=380.0,
        seasonal=(0.02, 0.02, 0.02, 0.03, 0.03, 0.03, 0.0, -0.02, -0.03, -0.02, 0.0, 0.01),
        front_vol=0.29,
        vol_level=0.33,
        rho=0.2,
        oi_peak=170.0,
        oi_flat=0.3,
        oi_decay=0.15,
        oi_floor=0.0,
        oi_width=2.9,
        oi_unit="strike",
        oi_noise=0.03,
        whole_zone=1.5,
        day_minutes=285,
        contract_volume=700,
    ),
}


def product(code: str) -> Product:
    """Return the product of a market; BadInput when the sample vendor does not have it."""
    if code not in PRODUCTS:
        raise BadInput(
            f"the sample vendor has no market {code!r}: it has {', '.join(PRODUCTS)};"
            " use another source for the rest"
        )
    return PRODUCTS[code]
