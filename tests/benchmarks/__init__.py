"""Benchmarks: healthlb beside native grpcio, in one process and one run.

    python -m tests.benchmarks [latency|throughput|streaming|instructions|pick|scale|simulation|all] [--face sync|aio|both]
    python -m tests.benchmarks --row aio_latency [--row ...] [--json FILE] [--quick]

What is compared, in each column of the table:

- healthlb: a `HealthAwareChannel` over three backends in processes of their own.
- native: a grpcio channel with `round_robin` and `healthCheckConfig` over the same three.
- plain: a grpcio channel to one of them. It balances nothing: it shows what a call costs at least.

The one rule: on a shared machine only ratios within one run mean anything. So the contestants take turns in short
blocks, the order changes from round to round, each round gives one ratio, and the figure is the median of those.
A second healthlb channel takes its turns as well: what it differs by from the first is the noise of the method, and a
verdict that this could turn has a question mark.

`catalogue` says what each figure is and what it has to reach, `pairing` how blocks alternate, `statistics` what a
ratio is worth; `sync_calls` and `aio_calls`, `pick`, `scale` and `simulation` measure,
`instructions` counts; `jobs` runs each in a fresh process;
`report` prints.
"""
