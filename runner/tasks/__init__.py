"""What can be done with a cell, one module a job, each with a ``run`` that the worker calls."""
