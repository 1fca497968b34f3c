"""What a run is handed: device, seeds, log, checkpoint, progress."""
