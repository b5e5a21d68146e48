"""Measures this library beside tensorflow_hub and a pipeline of curl, an inflater and tar.

`make bench` runs it and writes docs/benchmarks.md. From top to bottom:

    __main__       picks the rows, runs them, writes the report
    works          what is measured, row by row
    contestants    who is measured, each in a process of its own
    worker         what such a process runs
    steps          where the microseconds of a cached resolve go
    server         the host of the models, with and without a limit for each connection
    static_server  our own host, for what nginx can't do: count, cut, kill
    models         the models, made once
    results        a row: figures and targets
    report, chart, machine    what is written
"""
