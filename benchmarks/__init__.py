"""What the framework costs and gains, measured beside what a user would write without it."""
