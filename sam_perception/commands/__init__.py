"""The subcommands of `sam-perception`, one module each."""
