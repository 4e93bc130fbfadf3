"""Environments that run side by side, with checks and normalizers."""
