"""What is read off the wire, against protobuf's own encoder."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from hypothesis import given
from hypothesis import strategies as st

from healthlb.core.pickers.orca import LoadReport, parse_report, parse_text, report_of

FIELD = descriptor_pb2.FieldDescriptorProto


def report_class() -> Any:
    """The message, in a pool of its own and under another name: the real one may be registered by somebody else."""
    file = descriptor_pb2.FileDescriptorProto(name="report.proto", package="test", syntax="proto3")
    message = file.message_type.add(name="Report")
    numbers = {"cpu_utilization": 1, "mem_utilization": 2, "rps_fractional": 6, "eps": 7, "application_utilization": 9}
    for name, number in numbers.items():
        message.field.add(name=name, number=number, type=FIELD.TYPE_DOUBLE, label=1)
    message.field.add(name="rps", number=3, type=FIELD.TYPE_UINT64, label=1)
    message.field.add(name="later", number=77, type=FIELD.TYPE_FIXED32, label=1)
    for name, number in {"request_cost": 4, "utilization": 5, "named_metrics": 8}.items():
        entry = message.nested_type.add(name="".join(part.capitalize() for part in name.split("_")) + "Entry")
        entry.options.map_entry = True
        entry.field.add(name="key", number=1, type=FIELD.TYPE_STRING, label=1)
        entry.field.add(name="value", number=2, type=FIELD.TYPE_DOUBLE, label=1)
        kind = f".test.Report.{entry.name}"
        message.field.add(name=name, number=number, type=FIELD.TYPE_MESSAGE, label=3, type_name=kind)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)  # type: ignore[no-untyped-call]
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("test.Report"))


Report = report_class()

numbers = st.floats(allow_nan=False)
maps = st.dictionaries(st.text(max_size=5), numbers, max_size=3)


@given(numbers, numbers, numbers, numbers, numbers, maps, maps, maps, st.integers(0, 2**64 - 1))
def test_every_field_is_read_as_protobuf_writes_it(
    cpu: float, memory: float, own: float, qps: float, eps: float, cost: Any, utilization: Any, named: Any, rps: int
) -> None:
    data = Report(
        cpu_utilization=cpu,
        mem_utilization=memory,
        application_utilization=own,
        rps_fractional=qps,
        eps=eps,
        request_cost=cost,
        utilization=utilization,
        named_metrics=named,
        rps=rps,
        later=7,
    ).SerializeToString()

    assert parse_report(data) == LoadReport(cpu, memory, own, qps, eps, cost, utilization, named)


@given(st.binary(max_size=60))
def test_no_bytes_do_harm(data: bytes) -> None:
    report = parse_report(data)

    assert report is None or isinstance(report, LoadReport)


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"\x09\x00", "a double that is cut off"),
        (b"\x0a\x05ab", "a string that is cut off"),
        (b"\x0b", "a group"),
        (b"\x80", "a tag that is cut off"),
        (b"\xff" * 10 + b"\x01", "a tag too long"),
        (b"\x42\x02\x08\x01", "a key that is a number"),
        (b"\x42\x05\x0a\x01\xff\x10\x01", "a key that is no text"),
        (b"\x42\x02\x10\x01", "a value that is a whole number"),
    ],
)
def test_what_cannot_be_read_is_no_report(data: bytes, what: str) -> None:
    assert parse_report(data) is None, what


def test_other_wire_types_of_known_fields_are_passed_over() -> None:
    assert parse_report(b"\x08\x01\x21" + b"\x00" * 8 + b"\x3d\x00\x00\x00\x00") == LoadReport()


def test_an_empty_report_is_one() -> None:
    assert parse_report(b"") == LoadReport()


# --- as text ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "TEXT cpu_utilization=0.5,rps_fractional=100, named_metrics.queue.length=7,unheard_of=1",
        'JSON {"cpu_utilization": 0.5, "rps_fractional": 100, "named_metrics": {"queue.length": 7}, "unheard_of": 1}',
        'JSON {"cpuUtilization": 0.5, "rpsFractional": "100", "namedMetrics": {"queue.length": 7}}',
    ],
)
def test_a_report_may_be_text(text: str) -> None:
    wanted = LoadReport(cpu_utilization=0.5, qps=100.0, named_metrics={"queue.length": 7.0})

    assert parse_text(text) == wanted


@pytest.mark.parametrize(
    "text",
    [
        "",
        "XML <a/>",
        "TEXT cpu_utilization",
        "TEXT cpu_utilization=much",
        "JSON {",
        "JSON [1]",
        'JSON {"eps": []}',
        "JSON 1",
    ],
)
def test_text_that_cannot_be_read_is_no_report(text: str) -> None:
    assert parse_text(text) is None


def test_the_report_is_found_among_trailers() -> None:
    data = Report(eps=2.0).SerializeToString()

    assert report_of([("a", "b"), ("endpoint-load-metrics-bin", data)]) == LoadReport(eps=2.0)
    assert report_of([("endpoint-load-metrics", "TEXT eps=3")]) == LoadReport(eps=3.0)
    assert report_of([("a", "b"), ("endpoint-load-metrics", b"TEXT eps=3"), ("endpoint-load-metrics-bin", "x")]) is None


def test_a114_metrics_go_by_their_names() -> None:
    report = LoadReport(
        cpu_utilization=0.5,
        named_metrics={"queue": 3.0, "idle": 0.0},
        utilization={"disk.sda": 0.25},
        request_cost={"x": 2.0},
    )
    names = ("cpu_utilization", "named_metrics.queue", "utilization.disk.sda", "request_cost.x")
    absent = (
        "mem_utilization",
        "named_metrics.idle",
        "named_metrics.other",
        "queue",
        "metric",
        "named_metrics",
        "metric.x",
        "",
    )

    assert [report.metric(name) for name in names] == [0.5, 3.0, 0.25, 2.0]
    assert [report.metric(name) for name in absent] == [None] * len(absent)
    assert LoadReport(cpu_utilization=float("nan")).metric("cpu_utilization") is None
