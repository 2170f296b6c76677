"""Re-execute the notebooks and publish them: plan, execute, render."""
