"""Figures from results files."""
