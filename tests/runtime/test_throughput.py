"""Percentiles that were observed, and shares of a stream that add up."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bacmac.host.runtime.results import BatchResult, Counters, Window
from bacmac.host.runtime.throughput import percentile, summarize_stream


def result(start_ns, latency_ns, cycles=100, stalls=(0, 0), retried="", n_verified=0):
    return BatchResult(
        0,
        np.zeros((3, 10, 1, 1), np.int32),
        Counters(cycles=cycles),
        Window(start_ns, start_ns + 1),
        "functional",
        start_ns + latency_ns,
        latency_ns,
        *stalls,
        bytes_in=60,
        bytes_out=30,
        retried=retried,
        n_verified=n_verified,
    )


@given(st.lists(st.floats(0, 1e3), min_size=1, max_size=300), st.sampled_from([50, 90, 99]))
def test_a_percentile_is_a_value_that_was_observed_as_numpy_defines_it(values, percent):
    ascending = sorted(values)

    found = percentile(ascending, percent)

    assert found == np.percentile(ascending, percent, method="inverted_cdf")


def test_a_stream_lasts_from_the_first_start_to_the_last_output():
    results = [result(1_000, 500), result(1_500, 900, retried="lost", n_verified=2)]

    summary = summarize_stream(results, clock_hz=1e9)

    assert summary.wall_s == pytest.approx(1.4e-6)
    assert (summary.batches, summary.images) == (2, 6)
    assert summary.images_per_s == pytest.approx(6 / 1.4e-6)
    assert summary.latency_p50_s == pytest.approx(5e-7)
    assert summary.latency_p90_s == summary.latency_max_s == pytest.approx(9e-7)
    assert (summary.bytes_in, summary.bytes_out) == (120, 60)
    assert summary.retries == ("lost",)
    assert summary.n_verified == 2


def test_work_and_both_kinds_of_waiting_are_shares_of_the_whole_time():
    results = [result(0, 600, cycles=300, stalls=(50, 10)), result(600, 400, 200, (0, 90))]

    summary = summarize_stream(results, clock_hz=1e9)

    assert summary.busy_share == pytest.approx(0.5)
    assert summary.stall_in_share == pytest.approx(0.05)
    assert summary.stall_out_share == pytest.approx(0.1)


def test_a_stream_without_batches_has_no_summary():
    with pytest.raises(ValueError, match="no latency"):
        summarize_stream([], 1e9)
