"""What can be done with a cell, one module a job. Each has ``run(cell, device, function, tell)``, run in the worker."""
