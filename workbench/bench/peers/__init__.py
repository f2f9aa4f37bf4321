"""A distillation step here against the same step by the tools that others use.

job.py       the one job: teacher, student's start, batches, written to a folder
runners/     one script a contestant; `paced.py` is what they share
driver.py    starts them and lets them take turns
floor.py     the least time that the step's arithmetic can take on this machine
measure.py   all of it together; `workbench bench peers`
table.py     its text for people
grid.py      a sweep against the time of the peers' steps; `workbench bench grid`
"""
