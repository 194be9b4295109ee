"""Speed and memory: named cases, each in a process of its own, alone or in turns with another worktree.

- `bench_cases`: the plan, from `cases.yaml` and the installed backends
- `bench_worker`: a script that prepares one case and runs it whenever it is told to; also with the code of another tree
- `turns`: the processes, and who runs when
- `bench_record`: the record of a benchmark as JSON, and ratios
- `bench_tables`: the record as a table
- `worktree`: the other tree
"""
