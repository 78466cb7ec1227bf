"""What the chapters and pages are made with: ledger, notebook helpers, plots, the Sphinx side."""
