"""Honest figures for any model, offline: tasks, their runner, and intervals."""
