"""Instrument definitions: the full set that the vendor sends at each session's midnight UTC."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from etl.sources.sample.contracts import Contracts
from etl.sources.sample.dbn_files import UNDEF_PRICE, UNDEF_TIME, Records, records
from etl.sources.sample.world import Chain, World

__all__ = ["future_definitions", "nano", "option_definitions", "option_symbol"]

Ints = NDArray[np.int64]
_Template = Callable[[World, Ints], Records]

_UNDEF_INT = np.iinfo(np.int32).max
_SENT_BEFORE = 30 * 60 * 1_000_000_000  # the exchange's own stamp, before midnight


def nano(price: float) -> int:
    """Return a price in the vendor's fixed point, 1e-9 of a unit."""
    return round(price * 1e9)


def option_symbol(world: World, option: int, strike: int, is_call: bool) -> str:
    """Return the raw symbol, ``HEZ6 C8200`` for a strike of 82."""
    digits = strike * world.product.symbol_scale
    return f"{world.options.stem[option]} {'C' if is_call else 'P'}{digits}"


def future_definitions(world: World, first: int, last: int) -> Records:
    """Return outrights and calendar spreads of sessions ``first`` to ``last`` - 1."""
    session = np.arange(first, last)
    listed = world.listed_futures(session)
    return _daily(
        world,
        [
            (session.repeat(listed.shape[1]), listed.ravel(), _outrights),
            (session.repeat(listed.shape[1] - 1), listed[:, :-1].ravel(), _calendars),
        ],
    )


def option_definitions(world: World, chain: Chain) -> Records:
    """Return a chain's options with the combinations that a parent symbol drags along."""
    ids = world.option_id(chain.option, chain.strike, chain.is_call)
    _, place, row = np.unique(ids, return_index=True, return_inverse=True)
    options = _options(world, chain, place)[row]
    _stamp(options, world, chain.session)
    months = np.unique(np.column_stack((chain.session, chain.option)), axis=0)
    session, option = months[:, 0], months[:, 1]
    combinations = _daily(world, [(session, option, _strangles), (session, option, _user_defined)])
    return _in_order(np.concatenate((options, combinations)))


def _daily(world: World, kinds: Sequence[tuple[Ints, Ints, _Template]]) -> Records:
    """Expand one template a contract to one record a session and contract."""
    parts = []
    for session, contract, make in kinds:
        unique, row = np.unique(contract, return_inverse=True)
        part = make(world, unique)[row]
        _stamp(part, world, session)
        parts.append(part)
    return _in_order(np.concatenate(parts))


def _stamp(made: Records, world: World, session: Ints) -> None:
    made["ts_recv"] = world.sessions.midnight[session]
    made["ts_event"] = world.sessions.midnight[session] - _SENT_BEFORE


def _in_order(made: Records) -> Records:
    return made[np.lexsort((made["instrument_id"], made["ts_recv"]))]


def _template(world: World, contracts: Contracts, index: Ints, ids: Ints) -> Records:
    """Return records with what every instrument of these contract months shares."""
    made = records("definition", len(index))
    made["instrument_id"] = made["raw_instrument_id"] = ids
    made["activation"] = world.sessions.midnight[contracts.first[index]]
    made["expiration"] = contracts.expires_at[index]
    made["maturity_year"] = contracts.year[index]
    made["maturity_month"] = contracts.month[index]
    made["currency"] = b"USD"
    made["exchange"] = world.product.exchange.encode()
    made["security_update_action"] = b"A"
    made["user_defined_instrument"] = b"N"
    made["match_algorithm"] = b"F"
    made["leg_instrument_class"] = b" "
    made["leg_side"] = b"N"
    made["display_factor"] = nano(0.01)
    made["min_trade_vol"] = 1
    made["max_trade_vol"] = 2000
    made["market_depth"] = 10
    made["decay_start_date"] = np.iinfo(np.uint16).max
    for field in ("price_ratio", "strike_price", "leg_price", "leg_delta"):
        made[field] = UNDEF_PRICE
    for field in ("high_limit_price", "low_limit_price", "max_price_variation"):
        made[field] = UNDEF_PRICE
    for field in ("min_price_increment_amount", "unit_of_measure_qty"):
        made[field] = UNDEF_PRICE
    for field in ("contract_multiplier", "decay_quantity", "original_contract_size"):
        made[field] = _UNDEF_INT
    for field in ("main_fraction", "price_display_format", "sub_fraction", "tick_rule"):
        made[field] = 255
    for field in ("maturity_day", "maturity_week", "underlying_product"):
        made[field] = 255
    for field in ("contract_multiplier_unit", "flow_schedule_type"):
        made[field] = 127
    return made


def _outrights(world: World, future: Ints) -> Records:
    market, rules = world.market, world.product
    made = _template(world, world.futures, future, world.future_id(future))
    made["instrument_class"] = b"F"
    made["raw_symbol"] = [world.futures.stem[i].encode() for i in future]
    made["group"] = made["asset"] = market.futures_root.encode()
    made["cfi"] = b"FCAPSX"
    made["security_type"] = b"FUT"
    made["min_price_increment"] = nano(market.tick)
    made["min_price_increment_amount"] = nano(market.tick * market.multiplier)
    made["unit_of_measure"] = rules.unit_of_measure.encode()
    made["unit_of_measure_qty"] = nano(rules.unit_quantity)
    return made


def _calendars(world: World, future: Ints) -> Records:
    stem = world.futures.stem
    made = _template(world, world.futures, future, world.spread_id(future))
    made["activation"] = world.sessions.midnight[world.futures.first[future + 1]]
    made["instrument_class"] = b"S"
    made["raw_symbol"] = [f"{stem[i]}-{stem[i + 1]}".encode() for i in future]
    made["group"] = made["asset"] = world.market.futures_root.encode()
    made["cfi"] = b"FMAPSX"
    made["security_type"] = b"FUT"
    made["secsubtype"] = b"SP"
    made["min_price_increment"] = nano(world.market.tick)
    made["unit_of_measure"] = b"CTRCT"
    return made


def _options(world: World, chain: Chain, row: Ints) -> Records:
    market, rules = world.market, world.product
    option, strike, is_call = chain.option[row], chain.strike[row], chain.is_call[row]
    future = world.options.underlying[option]
    made = _template(world, world.options, option, world.option_id(option, strike, is_call))
    made["instrument_class"] = np.where(is_call, b"C", b"P")
    made["raw_symbol"] = [
        option_symbol(world, *one).encode()
        for one in zip(option.tolist(), strike.tolist(), is_call.tolist(), strict=True)
    ]
    made["group"] = made["asset"] = market.option_roots[0].encode()
    made["cfi"] = np.where(is_call, b"OCAFPS", b"OPAFPS")
    made["security_type"] = b"OOF"
    made["min_price_increment"] = nano(market.option_tick)
    made["min_price_increment_amount"] = nano(market.option_tick * market.multiplier)
    made["unit_of_measure"] = rules.unit_of_measure.encode()
    made["unit_of_measure_qty"] = nano(rules.unit_quantity)
    made["strike_price"] = strike * 1_000_000_000
    made["strike_price_currency"] = b"USD"
    made["underlying"] = [world.futures.stem[i].encode() for i in future]
    made["underlying_id"] = world.future_id(future)
    return made


def _strangles(world: World, option: Ints) -> Records:
    made = _combinations(world, option, user_defined=False)
    made["raw_symbol"] = [f"{world.options.stem[i]}:ST".encode() for i in option]
    return made


def _user_defined(world: World, option: Ints) -> Records:
    made = _combinations(world, option, user_defined=True)
    root = world.market.option_roots[0]
    made["raw_symbol"] = [f"UD:{root}: SG {i}".encode() for i in made["instrument_id"]]
    made["user_defined_instrument"] = b"Y"
    made["expiration"] = UNDEF_TIME
    return made


def _combinations(world: World, option: Ints, *, user_defined: bool) -> Records:
    ids = world.combination_id(option, user_defined)
    made = _template(world, world.options, option, ids)
    made["instrument_class"] = b"T"
    made["group"] = made["asset"] = world.market.option_roots[0].encode()
    made["cfi"] = b"OMXFPS"
    made["security_type"] = b"OOF"
    made["secsubtype"] = b"SG"
    made["min_price_increment"] = nano(world.market.option_tick)
    made["unit_of_measure"] = b"CTRCT"
    return made
