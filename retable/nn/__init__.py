"""Layers, losses and schedules that several papers share."""
