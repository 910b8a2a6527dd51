"""Dry runs: one question, one token, one answer, and what may be kept of it."""

from __future__ import annotations

import pytest
from sqlalchemy import func, select, update

from purlkit.results import CheckReport, ErrorReport, Layer
from services import checks
from services.errors import NotFound, Unauthorized
from services.tables import Check
from services.testing import a_spec
from tests.bench import Bench

LAYERS = (Layer(name="fc", kind="Linear", shape=(10, 64), weights=640),)
MISSING = ErrorReport(code="missing_data", message="no files")
UNREACHABLE = ErrorReport(code="unreachable_sparsity", message="too much")


def answer(bench: Bench, report: CheckReport) -> str:
    """A dry run from question to answer."""
    with bench.db.write() as session:
        check_id, _ = checks.create(session, a_spec())
    with bench.db.write() as session:
        checks.record(session, check_id, report)
    return check_id


def cached(bench: Bench) -> CheckReport | None:
    with bench.db.read() as session:
        return checks.cached(session, a_spec().fingerprint)


def test_the_answer_is_there_once_it_was_given(bench: Bench) -> None:
    report = CheckReport(runnable=True, layers=LAYERS, prunable_weights=640, sparsity_range=(0.1, 0.98))
    with bench.db.write() as session:
        check_id, _ = checks.create(session, a_spec())
    with bench.db.read() as session:
        assert checks.report(session, check_id) is None

    with bench.db.write() as session:
        checks.record(session, check_id, report)

    with bench.db.read() as session:
        assert checks.report(session, check_id) == report
    assert cached(bench) == report


def test_a_token_opens_its_own_check_for_a_while(bench: Bench) -> None:
    with bench.db.write() as session:
        check_id, token = checks.create(session, a_spec())
        _, other = checks.create(session, a_spec())

    with bench.db.read() as session:
        assert checks.authenticate(session, check_id, token).id == check_id
        with pytest.raises(Unauthorized):
            checks.authenticate(session, check_id, other)
    with bench.db.write() as session:
        session.execute(update(Check).values(expires_at=0))
    with pytest.raises(Unauthorized), bench.db.read() as session:
        checks.authenticate(session, check_id, token)


def test_what_is_cached_says_nothing_of_availability(bench: Bench) -> None:
    answer(bench, CheckReport(runnable=False, reasons=(MISSING,), layers=LAYERS, sparsity_range=(0.1, 0.98)))

    kept = cached(bench)

    assert kept is not None
    assert (kept.runnable, kept.reasons, kept.layers) == (True, (), LAYERS)


def test_what_the_spec_itself_rules_out_stays_ruled_out(bench: Bench) -> None:
    answer(bench, CheckReport(runnable=False, reasons=(UNREACHABLE, MISSING), layers=LAYERS))

    kept = cached(bench)

    assert kept is not None
    assert (kept.runnable, kept.reasons) == (False, (UNREACHABLE,))


def test_an_answer_without_layers_or_lasting_reasons_is_not_cached(bench: Bench) -> None:
    answer(bench, CheckReport(runnable=False, reasons=(MISSING,)))

    assert cached(bench) is None


def test_another_spec_has_another_answer(bench: Bench) -> None:
    answer(bench, CheckReport(runnable=True, layers=LAYERS))

    with bench.db.read() as session:
        assert checks.cached(session, a_spec(seed=1).fingerprint) is None


def test_questions_do_not_pile_up(bench: Bench) -> None:
    for _ in range(5):
        answer(bench, CheckReport(runnable=True, layers=LAYERS))
        with bench.db.write() as session:
            checks.create(session, a_spec())
            session.execute(update(Check).values(expires_at=0))

    with bench.db.read() as session:
        assert session.scalars(select(func.count()).select_from(Check)).one() <= 3


def test_there_is_no_answer_to_what_was_never_asked(bench: Bench) -> None:
    with pytest.raises(NotFound), bench.db.write() as session:
        checks.record(session, "chk_" + "0" * 26, CheckReport(runnable=True))
