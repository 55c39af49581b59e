"""Crash testing of jobs: seeded schedules of kills, pauses and restarts at every durable write, and what must hold in each.

`faulty_database` crashes durable writes, `simulation` runs server, jobs and clients in one process by a schedule, with
the code of stores and worker; `live` does it with real processes, `crash_hook` in them; `invariants` is what both check.
"""
