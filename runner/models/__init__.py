"""Small models in plain torch, whose calls are the workloads of ``conf/workload``."""
