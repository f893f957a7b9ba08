"""The vocabulary of work beside the conversation, one file a kind of job: its command, its answer, its figures.

A job is asked for by a command with an ``id``, tells JobProgress while it goes on, and ends with its own answer or
with JobFailed. Stop(id) cancels it. messages.py takes each command and event into its unions.
"""
