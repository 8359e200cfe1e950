"""`healthlb demo`: real servers, real faults, and what the client makes of them.

    schedule   which fault hits which backend when             pure
    ledger     calls and faults in, figures and verdict out    pure
    allowance  which failed calls the verdict excuses          pure
    activity   what the lanes of the live view show            pure
    backend    the server process
    fleet      starts, flips, kills and restarts the processes
    traffic    calls at a fixed rate
    runner     puts them together
    live, plain, report     what people see

The pure modules read no clock and start nothing.
"""
