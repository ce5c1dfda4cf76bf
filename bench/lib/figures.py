# SPDX-License-Identifier: MIT
"""Medians of runs, and of their ratios.  results: {job: {subject: [figures of each run]}}"""
import statistics


def runs_of(results, job, subject):
    return results.get(job, {}).get(subject, [])


def median(results, job, subject, key):
    runs = runs_of(results, job, subject)
    return statistics.median(run[key] for run in runs) if runs else None


def ratio(results, job, key, subject, other):
    """The median of the ratios of runs that came right after each other, or None."""
    pairs = [(a[key], b[key]) for a, b in zip(runs_of(results, job, subject), runs_of(results, job, other))]
    ratios = [a / b for a, b in pairs if b]
    return statistics.median(ratios) if ratios else None


def spread(results, job, subject, key):
    values = [run[key] for run in runs_of(results, job, subject)]
    return min(values), max(values)
