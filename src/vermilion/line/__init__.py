"""The line: brief → plan → generate → keep. Read run.py first."""
