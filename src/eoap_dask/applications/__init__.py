"""The applications: one module each, with its parameters, its plan and its flow."""
