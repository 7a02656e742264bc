"""A sweep from its configurations to its reports: plan, execute, record, compare, report."""
