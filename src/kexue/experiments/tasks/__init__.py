"""What experiments train on, and how their models' answers are measured."""
