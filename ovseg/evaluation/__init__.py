"""Measuring methods: data sets, metrics, and the run that puts them together."""
