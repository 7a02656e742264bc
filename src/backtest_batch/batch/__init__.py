"""One batch, from its request to its reports: plan, session, resume, finish."""
